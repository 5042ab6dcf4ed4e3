"""Which rows form which batch: a pure function of the seed and the step.

Nothing is remembered between steps, so a resumed run needs only its step number.
The order is Grain's: a new permutation every epoch, batches running on across the
boundary so that every step has the same size.
"""

from __future__ import annotations

import grain
import numpy as np


class BatchSampler:
    """Rows of each training batch.

    Args:
      records: number of training records.
      batch_size: rows in a batch.
      seed: decides the order of every epoch.
    """

    def __init__(self, records: int, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self._order = grain.MapDataset.range(records).seed(seed).shuffle().repeat()

    def rows(self, step: int) -> np.ndarray:
        """int64[batch_size]: the rows of batch `step` (from 0)."""
        first = step * self.batch_size
        return np.array([self._order[i] for i in range(first, first + self.batch_size)])
