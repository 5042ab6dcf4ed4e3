"""AffectNet, the manually annotated part: face boxes in photographs, or face crops."""
