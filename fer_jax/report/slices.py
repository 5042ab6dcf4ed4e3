"""Scores of groups within a split, by attributes such as view, sex or age."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from fer_jax.report.intervals import Groups
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import accuracy, balanced_accuracy

_MAX_VALUES = 12  # more distinct numbers are binned into quartiles


@dataclasses.dataclass(frozen=True)
class Slice:
    """Scores of the images with one attribute value.

    Attributes:
      value: attribute value.
      count: number of images.
      accuracy: fraction of correct predictions.
      balanced_accuracy: mean recall of the classes that occur (UAR).
      low: lower end of the interval of the accuracy; None with too few groups.
      high: upper end, or None.
      method: what the interval is over, or why there is none.
    """

    value: str
    count: int
    accuracy: float
    balanced_accuracy: float
    low: float | None
    high: float | None
    method: str


def slice_scores(
    predictions: Predictions, attributes: Mapping[str, Sequence[str] | np.ndarray]
) -> dict[str, tuple[Slice, ...]]:
    """Computes the scores of each value of each attribute.

    Args:
      predictions: predictions of N images.
      attributes: N values by attribute name: strings or numbers. More than 12 distinct numbers
        are binned into quartiles.

    Returns:
      Slices by attribute name, without attributes that have a single value.
    """
    slices = {}
    for name, values in attributes.items():
        texts = _as_texts(np.asarray(values))
        of_attribute = tuple(
            _slice(value, predictions.take(np.flatnonzero([text == value for text in texts])))
            for value in _in_order(texts)
        )
        if len(of_attribute) > 1:
            slices[name] = of_attribute
    return slices


def _slice(value: str, predictions: Predictions) -> Slice:
    confusion = predictions.confusion()
    groups = Groups.of(predictions)
    interval = groups.interval(accuracy)
    return Slice(
        value=value or "unknown",
        count=len(predictions),
        accuracy=float(accuracy(confusion)),
        balanced_accuracy=float(balanced_accuracy(confusion)),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        method=groups.method,
    )


def _as_texts(values: np.ndarray) -> list[str]:
    if values.dtype.kind not in "fiu":
        return [str(value) for value in values]
    if len(np.unique(values)) <= _MAX_VALUES:
        return [f"{value:g}" for value in values]
    edges = np.unique(np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))
    names = [f"{low:.2g} to {high:.2g}" for low, high in itertools.pairwise(edges)]
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(names) - 1)
    return [names[index] for index in bins]


def _in_order(texts: Sequence[str]) -> list[str]:
    """Returns distinct values: numbers in numerical order, strings alphabetically."""

    def key(text: str) -> tuple[int, float, str]:
        try:
            return 0, float(text.split(" ")[0]), text
        except ValueError:
            return 1, 0.0, text

    return sorted(set(texts), key=key)
