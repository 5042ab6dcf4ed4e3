"""Scores of a network's further heads: F1 of action units, concordance of valence and arousal.

Images without a label for an output do not count for it. Intervals are over the same groups as
those of the classes. The concordance correlation coefficient (Lin 1989) gets its interval on
Fisher's z scale, which is the logit scale of its position between -1 and 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_jax.heads import AFFECT, UNITS, concordance
from fer_jax.report.head_answers import HeadAnswers
from fer_jax.report.intervals import Groups, Interval


@dataclasses.dataclass(frozen=True)
class UnitScores:
    """Scores of one action unit over the images with a label for it.

    Attributes:
      name: its FACS name.
      count: number of the images.
      shown: number of those that show the unit.
      precision: 0 if it was never predicted.
      recall: 0 if it is never shown.
      f1: of "shown".
      interval: of the F1; None with too few groups.
      always: F1 of answering "shown" for every image, the best constant answer.
    """

    name: str
    count: int
    shown: int
    precision: float
    recall: float
    f1: float
    interval: Interval | None
    always: float


@dataclasses.dataclass(frozen=True)
class DimensionScores:
    """Scores of valence or arousal over the images with a label for it.

    Attributes:
      name: "valence" or "arousal".
      count: number of the images.
      ccc: concordance correlation coefficient; 0 for any constant answer.
      interval: of it; None with too few groups.
      rmse: root mean square error.
    """

    name: str
    count: int
    ccc: float
    interval: Interval | None
    rmse: float


@dataclasses.dataclass(frozen=True)
class HeadScores:
    """Scores of all further heads.

    Attributes:
      units: of each action unit; () without that head, or without labels.
      macro_f1: mean F1 of the units that are shown in some image; None without units.
      macro_f1_interval: its interval; None with too few groups.
      macro_always: mean of `UnitScores.always` over the same units.
      dimensions: of valence and arousal; () without that head, or without labels.
      ccc: mean of both; None without them.
      ccc_interval: its interval; None with too few groups.
      method: what the intervals are over.
    """

    units: tuple[UnitScores, ...] = ()
    macro_f1: float | None = None
    macro_f1_interval: Interval | None = None
    macro_always: float | None = None
    dimensions: tuple[DimensionScores, ...] = ()
    ccc: float | None = None
    ccc_interval: Interval | None = None
    method: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values by head; only of heads with scores."""
        content: dict[str, Any] = {}
        if self.units:
            content[UNITS] = {
                "macro_f1": self.macro_f1,
                "macro_f1_interval": _ends(self.macro_f1_interval),
                "macro_f1_always_shown": self.macro_always,
                "each": {one.name: _values(one) for one in self.units},
            }
        if self.dimensions:
            content[AFFECT] = {
                "ccc": self.ccc,
                "ccc_interval": _ends(self.ccc_interval),
                "each": {one.name: _values(one) for one in self.dimensions},
            }
        return content | {"method": self.method}


def score_heads(found: HeadAnswers, groups: Sequence[str], unit: str) -> HeadScores | None:
    """Scores the answers; None if no image has a label.

    Args:
      found: answers for N images.
      groups: N subject, video or movie ids; "" if unknown.
      unit: what a group is, as in `Predictions`.
    """
    known = ~np.isnan(found.labels)
    if not known.any():
        return None
    units, labeled = len(found.heads.units), known.any(axis=1)
    ids = np.array(groups)
    scores = HeadScores(method=_grouped(known[labeled], ids[labeled], unit).method)
    if known[:, :units].any():
        shown, seen = found.labels[:, :units] >= 0.5, found.answers[:, :units] >= 0.5
        counts = np.stack([shown & seen, ~shown & seen, shown & ~seen], axis=-1)
        scores = _with_units(scores, found, counts & known[:, :units, None], ids, unit)
    if known[:, units:].any():
        scores = _with_dimensions(scores, found, known, ids, unit)
    return scores


def f1(counts: np.ndarray) -> np.ndarray:
    """Returns the F1, float64[...], of true and false positives and false negatives [..., 3]."""
    hits, false, missed = np.moveaxis(counts, -1, 0)
    total = 2 * hits + false + missed
    return np.asarray(np.where(total > 0, 2 * hits / np.maximum(total, 1), 0.0))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Returns the mean F1, float64[...], of the units that are shown; counts are [..., U, 3]."""
    is_shown = counts[..., 0] + counts[..., 2] > 0
    number = np.maximum(is_shown.sum(axis=-1), 1)
    return np.asarray((f1(counts) * is_shown).sum(axis=-1) / number)


def _with_units(
    scores: HeadScores, found: HeadAnswers, counts: np.ndarray, ids: np.ndarray, unit: str
) -> HeadScores:
    """Adds the scores of the units, whose counts of each image are bool[N, U, 3]."""
    known, each = ~np.isnan(found.labels), []
    for index, name in enumerate(found.heads.units):
        rows = known[:, index]
        hits, false, missed = (int(value) for value in counts[:, index].sum(axis=0))
        shown, count = hits + missed, int(rows.sum())
        groups = _grouped(counts[rows, index], ids[rows], unit)
        each.append(
            UnitScores(
                name=name,
                count=count,
                shown=shown,
                precision=hits / max(hits + false, 1),
                recall=hits / max(shown, 1),
                f1=float(f1(np.array([hits, false, missed]))),
                interval=groups.interval(f1) if shown else None,
                always=2 * shown / max(count + shown, 1),
            )
        )
    occurring = [one for one in each if one.shown]
    rows = known[:, : len(each)].any(axis=1)
    total = counts.sum(axis=0)
    return dataclasses.replace(
        scores,
        units=tuple(each),
        macro_f1=float(macro_f1(total)),
        macro_f1_interval=_grouped(counts[rows], ids[rows], unit).interval(macro_f1),
        macro_always=float(np.mean([one.always for one in occurring])) if occurring else 0.0,
    )


def _with_dimensions(
    scores: HeadScores, found: HeadAnswers, known: np.ndarray, ids: np.ndarray, unit: str
) -> HeadScores:
    """Adds the scores of valence and arousal."""
    first = len(found.heads.units)
    x, y = found.answers[:, first:].astype(np.float64), found.labels[:, first:].astype(np.float64)
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
    moments = np.where(known[:, first:, None], terms, 0.0)
    each = []
    for index, name in enumerate(found.heads.names[first:]):
        rows = known[:, first + index]
        error = (x - y)[rows, index]
        each.append(
            DimensionScores(
                name=name,
                count=int(rows.sum()),
                ccc=float(concordance(moments[:, index].sum(axis=0))),
                interval=_fisher(_grouped(moments[rows, index], ids[rows], unit), concordance),
                rmse=float(np.sqrt((error**2).mean())) if rows.any() else 0.0,
            )
        )
    labeled = known[:, first:].any(axis=1)
    groups = _grouped(moments[labeled], ids[labeled], unit)
    return dataclasses.replace(
        scores,
        dimensions=tuple(each),
        ccc=float(np.mean([one.ccc for one in each])),
        ccc_interval=_fisher(groups, lambda sums: concordance(sums).mean(axis=-1)),
    )


def _fisher(groups: Groups, statistic: Any) -> Interval | None:
    """Returns the interval of a coefficient in -1..1."""
    found = groups.interval(lambda sums: (1 + statistic(sums)) / 2)
    return Interval(2 * found.low - 1, 2 * found.high - 1) if found else None


def _grouped(values: np.ndarray, ids: np.ndarray, unit: str) -> Groups:
    """Returns the sums [K, ...] over groups of values [N, ...]; "" is a group of its own."""
    is_named = ids != ""
    names, index = np.unique(ids[is_named], return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, index, values[is_named])
    parts = np.concatenate([sums, values[~is_named].astype(np.float64)])
    return Groups(parts, np.ones(len(parts), np.int64), len(names), unit)


def _ends(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval else None


def _values(one: UnitScores | DimensionScores) -> dict[str, Any]:
    content = dataclasses.asdict(one)
    del content["name"]
    return content | {"interval": _ends(one.interval)}
