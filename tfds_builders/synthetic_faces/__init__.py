"""Rendered faces with known expressions: the set that ships, and larger ones on demand."""
