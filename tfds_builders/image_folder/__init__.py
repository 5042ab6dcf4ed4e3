"""A folder of the user's own images: one folder per class, with or without splits."""
