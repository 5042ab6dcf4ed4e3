"""The order in which pictures are shown, so that no class crowds out another. Draws nothing."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def by_turns(labels: np.ndarray, rows: np.ndarray, last: Collection[int] = ()) -> list[int]:
    """`rows` in rounds, a row of each class per round; the classes `last` end a round.

    Args:
      labels: int[N], the class of each record.
      rows: int[M], in the order in which those of a class have their turn.
      last: class indices.
    """
    seen: dict[int, int] = {}
    keys = []
    for row in rows:
        label = int(labels[row])
        turn = seen[label] = seen.get(label, -1) + 1
        keys.append((turn, label in last, label, int(row)))
    return [key[-1] for key in sorted(keys)]
