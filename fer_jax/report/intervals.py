"""Confidence intervals of scores that are computed from a confusion matrix.

Images of one person are correlated, so people (or videos, movies) are the units where they are
known. The standard error is the delete-one jackknife over these groups (Efron and Tibshirani 1993,
chapter 11). The interval is Student's on the logit scale, which keeps it within 0 and 1 and makes
it asymmetric near both (Korn and Graubard 1999, section 3.2). A bootstrap over few groups is too
narrow, macro F1's most of all; `benchmarks/coverage.py` measures the coverage of these intervals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.special

from fer_jax.report.predictions import Predictions

CONFIDENCE_LEVEL = 0.95
MIN_GROUPS = 8  # with fewer, no method covers often enough

Statistic = Callable[[np.ndarray], np.ndarray]
"""A score in [0, 1], float64[...], of confusion matrices, int64[..., C, C]."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval at `CONFIDENCE_LEVEL`."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Confusion matrices of the independent groups of images.

    Attributes:
      confusions: int64[K, C, C], distinct ones.
      copies: int64[K], the number of groups with each.
      named: number of groups with a name. An image without a group is its own group.
      unit: what a named group is, as in `Predictions`.
    """

    confusions: np.ndarray
    copies: np.ndarray
    named: int
    unit: str

    @classmethod
    def of(cls, predictions: Predictions) -> Groups:
        """Returns the groups of the predictions."""
        classes = len(predictions.label_names)
        size = classes * classes
        cells = predictions.labels.astype(np.int64) * classes + predictions.predicted
        groups = np.array(predictions.groups)
        known = groups != ""
        names, index = np.unique(groups[known], return_inverse=True)
        counts = np.bincount(index * size + cells[known], minlength=len(names) * size)
        # Images without a group have few distinct matrices: data sets have 10^5 such images.
        images = np.bincount(cells[~known], minlength=size)
        occupied = np.flatnonzero(images)
        confusions = np.concatenate(
            [counts.reshape(len(names), size), np.eye(size, dtype=np.int64)[occupied]]
        )
        copies = np.concatenate([np.ones(len(names), np.int64), images[occupied]])
        return cls(confusions.reshape(-1, classes, classes), copies, len(names), predictions.unit)

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.copies.sum())

    @property
    def method(self) -> str:
        """Describes what the intervals are over, or says why there are none."""
        images = self.count - self.named
        if self.count >= MIN_GROUPS:
            parts = [_count(self.named, self.unit)] if self.named else []
            if images:
                parts.append(_count(images, "image") + " of unknown origin" * bool(parts))
            return f"jackknife over {' and '.join(parts)}"
        needed = _count(MIN_GROUPS, self.unit if self.named else "image")
        return (
            f"{needed} are needed for an interval; "
            f"there {'is' if self.count == 1 else 'are'} {self.count}"
        )

    def interval(self, statistic: Statistic) -> Interval | None:
        """Returns the interval of a score; None with fewer than `MIN_GROUPS` groups."""
        count, total = self.count, np.tensordot(self.copies, self.confusions, 1)
        if count < MIN_GROUPS:
            return None
        tail = (1 - CONFIDENCE_LEVEL) / 2
        value = float(statistic(total))
        # Without any variation: Clopper and Pearson's interval, each group a single trial.
        if value >= 1:
            return Interval(tail ** (1 / count), 1.0)
        if value <= 0:
            return Interval(0.0, 1 - tail ** (1 / count))
        squares = (statistic(total - self.confusions) - value) ** 2
        second = float(self.copies @ squares) / count
        fourth = float(self.copies @ squares**2) / count
        if second == 0:
            return Interval(value, value)
        error = np.sqrt((count - 1) * second) / (value * (1 - value))
        # Degrees of freedom of the variance estimate (Satterthwaite 1946), from the kurtosis of
        # the jackknife: few if a score depends on few groups, as with a rare class.
        excess = fourth / second**2 - 1
        freedom = 2 * count / max(excess, 2 * count / (count - 1))
        margin = scipy.special.stdtrit(freedom, 1 - tail) * error
        center = scipy.special.logit(value)
        low, high = scipy.special.expit([center - margin, center + margin])
        return Interval(float(low), float(high))


def _count(count: int, unit: str) -> str:
    """Such as "1 person", "100 people" or "3 videos"."""
    if unit == "subject":
        return f"{count} {'person' if count == 1 else 'people'}"
    return f"{count} {unit}{'' if count == 1 else 's'}"
