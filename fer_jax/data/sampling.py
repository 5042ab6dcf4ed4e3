"""Which rows form which batch, and how classes are balanced.

A pure function of seed and step: nothing is carried from step to step, so a resumed run needs
its step number only. Batches run across epoch boundaries, so that every step has the same size.
Balancing changes which records an epoch contains, not its length.

The order must never change, because a run is reproduced by its seed: places are sorted by raw
Philox words, whose values NumPy guarantees, unlike those of its permutations.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

POWERS: Mapping[str, float] = {
    "none": 1.0,
    "oversample": 0.0,
    "sqrt": 0.5,
    "class_weights": 1.0,
}
"""For each of `settings.BALANCES`: a class of n records is sampled in proportion to n**power.

"oversample" samples all classes equally often (the paper's), "sqrt" is the milder form;
"class_weights" samples them as they are and weights the loss (`class_weights` below).
"""


class BatchSampler:
    """Rows of each training batch.

    An epoch has as many places as there are records. Each class gets its share of them and fills
    them with its records in shuffled passes: none is repeated before all others of its class
    were used.

    Args:
      labels: int[N], the class of each training record.
      batch_size: rows in a batch.
      seed: determines the order of every epoch.
      balance: a key of `POWERS`.
    """

    def __init__(
        self, labels: np.ndarray, batch_size: int, seed: int, balance: str = "none"
    ) -> None:
        self.batch_size = batch_size
        self._records = len(labels)
        self._seed = seed
        self._members = [np.flatnonzero(labels == name) for name in range(labels.max() + 1)]
        counts = np.array([len(rows) for rows in self._members])
        self._places = _apportion(sampled_shares(counts, balance), self._records)
        # Two entries: a chunk of steps may cross from one epoch into the next.
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch_rows)

    def rows(self, first_step: int, count: int = 1) -> np.ndarray:
        """Returns int64[count, batch_size]: `count` batches from `first_step` (from 0) on."""
        first = first_step * self.batch_size
        places = np.arange(first, first + count * self.batch_size)
        epochs = range(places[0] // self._records, places[-1] // self._records + 1)
        order = np.concatenate([self._epoch(epoch) for epoch in epochs])
        return order[places - epochs[0] * self._records].reshape(count, self.batch_size)

    def _epoch_rows(self, epoch: int) -> np.ndarray:
        """Returns int64[N]: the rows of an epoch in order."""
        chosen = [
            self._passes(name, epoch * places, places)
            for name, places in enumerate(self._places)
            if places
        ]
        return np.concatenate(chosen)[self._shuffled(epoch, 0, self._records)]

    def _passes(self, name: int, first: int, count: int) -> np.ndarray:
        """Returns int64[count] records of a class, in a new order in every pass over it."""
        members = self._members[name]
        passes = range(first // len(members), (first + count - 1) // len(members) + 1)
        stream = [members[self._shuffled(number, name + 1, len(members))] for number in passes]
        start = first - passes[0] * len(members)
        return np.concatenate(stream)[start : start + count]

    def _shuffled(self, number: int, stream: int, count: int) -> np.ndarray:
        words = np.random.Philox(key=self._seed % 2**64, counter=[0, 0, number, stream])
        return np.argsort(words.random_raw(count), kind="stable")


def sampled_shares(counts: np.ndarray, balance: str) -> np.ndarray:
    """Returns float64[C]: the share of each class among sampled records; 0 if it has none.

    Args:
      counts: int[C], records of each class.
      balance: a key of `POWERS`.
    """
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** POWERS[balance], 0.0)
    return weights / weights.sum()


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Returns float64[C]: loss weights under which all present classes count equally.

    Their mean over the records is 1, so that the learning rate keeps its meaning.

    Args:
      counts: int[C], records of each class.
    """
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0)


def effective_shares(counts: np.ndarray, balance: str) -> np.ndarray:
    """Returns float64[C]: the share of each class in the loss, by sampling and weight."""
    shares = sampled_shares(counts, balance)
    return shares * class_weights(counts) if balance == "class_weights" else shares


def _apportion(shares: np.ndarray, places: int) -> np.ndarray:
    """Returns int64[C] with sum `places`: largest remainders, ties to the earlier class."""
    exact = shares * places
    whole = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(whole - exact, kind="stable")
    whole[by_remainder[: places - whole.sum()]] += 1
    return whole
