"""AM-FED+, faces filmed by webcams at home, from the copy that the user was sent."""
