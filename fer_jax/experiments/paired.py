"""Paired comparisons: how much better one network is than another on the same test images.

Images of one person are correlated, so people are resampled where they are known: a bootstrap over
groups of the difference in accuracy. Its deviations are widened for few groups as Hesterberg 2015
("What teachers should know about the bootstrap", section 5.3) does; `tests/experiments` checks how
often it rejects equal networks. P-values of several pairs are adjusted by Holm's method (1979).
Two single runs also have McNemar's exact test, which takes images as independent.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import scipy.special
import scipy.stats

from fer_jax.report.intervals import CONFIDENCE_LEVEL, MIN_GROUPS, Interval

REPLICATES = 10_000
_CHUNK = 2**22  # resampled counts in memory at a time


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two networks on the same images.

    Attributes:
      first: row of the one.
      second: row of the other.
      difference: accuracy of the first minus that of the second.
      interval: of the difference, at `CONFIDENCE_LEVEL`; None with too few groups.
      p_value: of no difference, by the bootstrap over groups; None with too few groups.
      adjusted: `p_value` by Holm's method over all pairs.
      mcnemar: McNemar's exact p-value; None if a row is a mean of several seeds.
    """

    first: int
    second: int
    difference: float
    interval: Interval | None
    p_value: float | None
    adjusted: float | None
    mcnemar: float | None


def compare(correct: np.ndarray, groups: Sequence[str], seed: int = 0) -> list[Pair]:
    """Compares each pair of networks.

    Args:
      correct: float[R, N], the share of each network's seeds that recognize each image: 0 or 1
        for a single run.
      groups: person of each of the N images; "" if unknown, for a group of its own.
      seed: of the bootstrap.
    """
    pairs = list(itertools.combinations(range(len(correct)), 2))
    sums, sizes, copies = _grouped(np.asarray(correct, np.float64), groups)
    count = int(copies.sum())
    means = correct.mean(axis=1)
    if count < MIN_GROUPS:
        return [Pair(a, b, means[a] - means[b], None, None, None, _mcnemar(correct[[a, b]]))
                for a, b in pairs]  # fmt: skip
    drawn = _bootstrap(sums, sizes, copies, np.random.default_rng(seed))
    tail = (1 - CONFIDENCE_LEVEL) / 2
    wider = np.sqrt(count / (count - 1)) * (
        scipy.special.stdtrit(count - 1, tail) / scipy.special.ndtri(tail)
    )
    found = []
    for a, b in pairs:
        difference = float(means[a] - means[b])
        deviations = wider * (drawn[:, a] - drawn[:, b] - difference)
        low, high = difference + np.quantile(deviations, [tail, 1 - tail])
        # Rounding: deviations of equal size are as extreme.
        extreme = int((np.abs(deviations) >= abs(difference) - 1e-12).sum())
        found.append((difference, Interval(low, high), (1 + extreme) / (1 + len(deviations))))
    adjusted = holm([p_value for *_, p_value in found])
    return [
        Pair(a, b, *values, p_value, _mcnemar(correct[[a, b]]))
        for (a, b), values, p_value in zip(pairs, found, adjusted, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's adjusted p-values, in the same order."""
    order = np.argsort(p_values, kind="stable")
    steps = [(len(order) - rank) * p_values[row] for rank, row in enumerate(order)]
    adjusted = np.minimum(np.maximum.accumulate(steps), 1.0) if steps else np.array([])
    result = np.empty(len(order))
    result[order] = adjusted
    return [float(value) for value in result]


def _grouped(
    correct: np.ndarray, groups: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sums float64[K, R], sizes float64[K] and copies int64[K] of distinct groups.

    Images without a group have few distinct rows, of which data sets have 10^5.
    """
    names = np.array(groups)
    known = names != ""
    unique, index = np.unique(names[known], return_inverse=True)
    sums = np.zeros((len(unique), len(correct)))
    np.add.at(sums, index, correct[:, known].T)
    sizes = np.bincount(index, minlength=len(unique)).astype(np.float64)
    rows, copies = np.unique(correct[:, ~known].T, axis=0, return_counts=True)
    return (
        np.concatenate([sums, rows]),
        np.concatenate([sizes, np.ones(len(rows))]),
        np.concatenate([np.ones(len(unique), np.int64), copies]),
    )


def _bootstrap(
    sums: np.ndarray, sizes: np.ndarray, copies: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns the accuracies of `REPLICATES` samples of groups, float64[REPLICATES, R]."""
    count = int(copies.sum())
    chunk = max(1, _CHUNK // len(copies))
    drawn = []
    for first in range(0, REPLICATES, chunk):
        rows = min(chunk, REPLICATES - first)
        weights = rng.multinomial(count, copies / count, size=rows).astype(np.float64)
        drawn.append((weights @ sums) / (weights @ sizes)[:, None])
    return np.concatenate(drawn)


def _mcnemar(correct: np.ndarray) -> float | None:
    """McNemar's exact two-sided p-value of two rows of 0 and 1; None if there are others."""
    if not np.isin(correct, (0, 1)).all():
        return None
    better, worse = int((correct[0] > correct[1]).sum()), int((correct[0] < correct[1]).sum())
    if better + worse == 0:
        return 1.0
    return float(scipy.stats.binomtest(better, better + worse).pvalue)
