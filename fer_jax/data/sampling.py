"""Which rows form which batch, and how rare classes are favoured.

A pure function of the seed and the step: nothing is remembered between steps, so a resumed
run needs only its step number. Batches run on across the boundary of an epoch, so that every
step has the same size. Balancing changes which records an epoch holds, never how long it is.

The order is our own and stays as it is, because a run is repeated by its seed: places are
sorted by raw Philox words, whose values NumPy guarantees, unlike those of its permutations.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

BALANCES: Mapping[str, float] = {
    "none": 1.0,
    "oversample": 0.0,
    "sqrt": 0.5,
    "class_weights": 1.0,
}
"""What `config.train.balance` may be: a class of n records is seen in proportion to n**power.

"oversample" shows all classes equally often (the paper's), "sqrt" is the mild form;
"class_weights" shows them as they are and weighs the loss (`class_weights` here).
"""


class BatchSampler:
    """Rows of each training batch.

    An epoch has as many places as there are records. Each class gets its share of them, and
    fills them with its records in turn: none comes again before all others of its class did.

    Args:
      labels: int[N], the class of each training record.
      batch_size: rows in a batch.
      seed: decides the order of every epoch.
      balance: a name of `BALANCES`.
    """

    def __init__(
        self, labels: np.ndarray, batch_size: int, seed: int, balance: str = "none"
    ) -> None:
        self.batch_size = batch_size
        self._records = len(labels)
        self._seed = seed
        self._members = [np.flatnonzero(labels == name) for name in range(labels.max() + 1)]
        counts = np.array([len(rows) for rows in self._members])
        self._places = _apportion(shown_shares(counts, balance), self._records)
        # Two: a run of steps crosses from one epoch into the next.
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch_rows)

    def rows(self, first_step: int, count: int = 1) -> np.ndarray:
        """int64[count, batch_size]: the rows of `count` batches from `first_step` (from 0) on."""
        first = first_step * self.batch_size
        places = np.arange(first, first + count * self.batch_size)
        epochs = range(places[0] // self._records, places[-1] // self._records + 1)
        order = np.concatenate([self._epoch(epoch) for epoch in epochs])
        return order[places - epochs[0] * self._records].reshape(count, self.batch_size)

    def _epoch_rows(self, epoch: int) -> np.ndarray:
        """int64[N]: the rows of an epoch in order."""
        chosen = [
            self._turns(name, epoch * places, places)
            for name, places in enumerate(self._places)
            if places
        ]
        return np.concatenate(chosen)[self._shuffled(epoch, 0, self._records)]

    def _turns(self, name: int, first: int, count: int) -> np.ndarray:
        """int64[count]: records of a class, in a new order at every turn."""
        members = self._members[name]
        turns = range(first // len(members), (first + count - 1) // len(members) + 1)
        stream = [members[self._shuffled(turn, name + 1, len(members))] for turn in turns]
        start = first - turns[0] * len(members)
        return np.concatenate(stream)[start : start + count]

    def _shuffled(self, turn: int, stream: int, count: int) -> np.ndarray:
        words = np.random.Philox(key=self._seed % 2**64, counter=[0, 0, turn, stream])
        return np.argsort(words.random_raw(count), kind="stable")


def shown_shares(counts: np.ndarray, balance: str) -> np.ndarray:
    """float64[C]: the share of each class in what training shows; an absent class has none.

    Args:
      counts: int[C], records of each class.
      balance: a name of `BALANCES`.
    """
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** BALANCES[balance], 0.0)
    return weights / weights.sum()


def class_weights(counts: np.ndarray) -> np.ndarray:
    """float64[C]: weights of the loss under which all present classes count the same.

    Their mean over the records is 1, so that the learning rate keeps its meaning.

    Args:
      counts: int[C], records of each class.
    """
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0)


def effective_shares(counts: np.ndarray, balance: str) -> np.ndarray:
    """float64[C]: the share of each class in the loss, by how often it is shown and its weight."""
    shares = shown_shares(counts, balance)
    return shares * class_weights(counts) if balance == "class_weights" else shares


def _apportion(shares: np.ndarray, places: int) -> np.ndarray:
    """int64[C] that sum up to `places`: largest remainders, the earlier class first."""
    exact = shares * places
    whole = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(whole - exact, kind="stable")
    whole[by_remainder[: places - whole.sum()]] += 1
    return whole
