"""Scores of parts of a split: by view, sex, age or whatever else the set knows.

Nothing is drawn or printed here.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import CONFIDENCE_LEVEL, accuracy, balanced_accuracy, resample

_MOST_VALUES = 12  # more distinct numbers are cut into quarters
_RESAMPLES = 500  # of the interval of each part: enough for two digits


@dataclasses.dataclass(frozen=True)
class Slice:
    """One part of a split.

    Attributes:
      value: what its pictures have in common.
      count: how many there are.
      accuracy: the fraction that is right.
      balanced_accuracy: the mean recall of the classes that occur (UAR).
      low: lower end of the interval of the accuracy.
      high: its upper end.
    """

    value: str
    count: int
    accuracy: float
    balanced_accuracy: float
    low: float
    high: float


def slice_scores(
    predictions: Predictions, attributes: Mapping[str, Sequence[str] | np.ndarray], seed: int = 0
) -> dict[str, tuple[Slice, ...]]:
    """The scores of each value of each attribute.

    Args:
      predictions: of N pictures.
      attributes: N values by name: texts, or numbers, which are cut into quarters where
        there are more than twelve.
      seed: draws the bootstrap.

    Returns:
      The parts by attribute; an attribute with one value says nothing and is left out.
    """
    found = {}
    for name, values in attributes.items():
        texts = _as_texts(np.asarray(values))
        parts = tuple(
            _slice(value, _take(predictions, [text == value for text in texts]), seed)
            for value in _in_order(texts)
        )
        if len(parts) > 1:
            found[name] = parts
    return found


def _slice(value: str, part: Predictions, seed: int) -> Slice:
    confusion = part.confusion()
    drawn, _ = resample(part, seed, _RESAMPLES)
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(accuracy(drawn), (tail, 1 - tail))
    return Slice(
        value=value or "not known",
        count=len(part),
        accuracy=float(accuracy(confusion)),
        balanced_accuracy=float(balanced_accuracy(confusion)),
        low=float(low),
        high=float(high),
    )


def _take(predictions: Predictions, chosen: Sequence[bool]) -> Predictions:
    rows = np.flatnonzero(chosen)
    return Predictions(
        ids=tuple(predictions.ids[row] for row in rows),
        labels=predictions.labels[rows],
        probabilities=predictions.probabilities[rows],
        groups=tuple(predictions.groups[row] for row in rows),
        label_names=predictions.label_names,
    )


def _as_texts(values: np.ndarray) -> list[str]:
    if values.dtype.kind not in "fiu":
        return [str(value) for value in values]
    if len(np.unique(values)) <= _MOST_VALUES:
        return [f"{value:g}" for value in values]
    edges = np.unique(np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))
    names = [f"{low:.2g} to {high:.2g}" for low, high in itertools.pairwise(edges)]
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(names) - 1)
    return [names[place] for place in places]


def _in_order(texts: Sequence[str]) -> list[str]:
    """Distinct values: numbers by size, texts by the alphabet."""

    def key(text: str) -> tuple[int, float, str]:
        try:
            return 0, float(text.split(" ")[0]), text
        except ValueError:
            return 1, 0.0, text

    return sorted(set(texts), key=key)
