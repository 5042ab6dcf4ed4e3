"""The batch sizes of a network in JAX, and batches padded to them.

Few sizes, because JAX compiles a program for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

BATCH_SIZES = (1, 8, 32)
"""Batch sizes of `Network.classify`, ascending."""

EXPLAIN_BATCH_SIZES = (1, 8)
"""Batch sizes of `Network.explain`; smaller, because its backward pass stores activations."""


def padded(faces: np.ndarray, sizes: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
    """Yields padded batches of one of `sizes` rows, and the number of rows that are faces."""
    first = 0
    while first < len(faces):
        remaining = len(faces) - first
        size = next((size for size in sizes if size >= remaining), sizes[-1])
        rows = faces[first : first + size]
        padding = np.zeros((size - len(rows), *faces.shape[1:]), faces.dtype)
        yield np.concatenate([rows, padding]), len(rows)
        first += size
