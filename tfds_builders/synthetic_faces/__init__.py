"""Rendered faces with known expressions: a small set that ships, and larger ones on demand."""
