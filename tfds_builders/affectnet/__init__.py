"""AffectNet's manually labelled part, with its face boxes or as face crops."""
