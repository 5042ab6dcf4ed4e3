"""KDEF, the Karolinska Directed Emotional Faces, from the copy that the user was sent."""
