"""AM-FED+: faces filmed by webcams at home, with action units labeled by coders."""
