"""The order of example images, with all classes represented."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def round_robin(labels: np.ndarray, rows: np.ndarray, last: Collection[int] = ()) -> list[int]:
    """Orders `rows` in rounds with one row of each class.

    Args:
      labels: int[N], the class of each record.
      rows: int[M]; their order within each class is kept.
      last: classes at the end of each round.
    """
    rounds: dict[int, int] = {}
    keys = []
    for row in rows:
        label = int(labels[row])
        number = rounds[label] = rounds.get(label, -1) + 1
        keys.append((number, label in last, label, int(row)))
    return [key[-1] for key in sorted(keys)]
