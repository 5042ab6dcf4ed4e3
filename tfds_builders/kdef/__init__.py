"""KDEF, the Karolinska Directed Emotional Faces."""
