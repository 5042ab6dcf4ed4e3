"""A folder of one's own pictures: one folder for each class, with or without splits."""
