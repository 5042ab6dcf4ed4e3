"""Ranks runs of the same test data by accuracy, and compares them in pairs.

Runs that differ only in their seed are one row. Reads report.json and predictions.csv of run
directories; nothing is evaluated here, and JAX is not needed. `comparison_tables` formats it.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fer_jax.experiments import paired
from fer_jax.experiments.comparison import RunReport, TableRow, own_rows
from fer_jax.experiments.paired import Pair
from fer_jax.report import predictions as saved
from fer_jax.report.intervals import Groups, Interval
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import accuracy
from fer_jax.settings import flatten

MAX_ROWS = 20
"""Rows that are compared in pairs, the best ones; of more rows nobody reads the pairs."""


@dataclasses.dataclass(frozen=True)
class Rank:
    """A row of the ranking.

    Attributes:
      row: the runs.
      settings: the settings in which the rows on this data differ, such as "train.balance=sqrt".
      interval: of the accuracy over people, all seeds pooled; None if there is none.
    """

    row: TableRow
    settings: str
    interval: Interval | None

    @property
    def name(self) -> str:
        """Network and settings."""
        return " ".join(part for part in (self.row.runs[0].model, self.settings) if part)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Rows on one test split, the best first.

    Attributes:
      ranks: the rows.
      pairs: comparisons of the rows that were tested on the same records; their `first` and
        `second` are rows of `ranks`, the better one first.
    """

    ranks: tuple[Rank, ...]
    pairs: tuple[Pair, ...]


def rank(reports: Sequence[RunReport]) -> list[Ranking]:
    """Returns a ranking for each data set, protocol and split."""
    tested: dict[Any, list[TableRow]] = collections.defaultdict(list)
    for row in own_rows(reports):
        one = row.runs[0]
        tested[one.dataset, one.config, one.protocol, one.split].append(row)
    return [_ranking(sorted(rows, key=lambda row: -row.accuracy)) for rows in tested.values()]


def _ranking(rows: Sequence[TableRow]) -> Ranking:
    predictions = [_predictions(row) for row in rows]
    settings = _differences(rows)
    ranks = tuple(
        Rank(row, text, _interval(row, loaded))
        for row, text, loaded in zip(rows, settings, predictions, strict=True)
    )
    return Ranking(ranks, tuple(_pairs(predictions[:MAX_ROWS])))


def _predictions(row: TableRow) -> list[Predictions]:
    """Returns the predictions of the row's runs; empty if one has none."""
    paths = [run.predictions for run in row.runs]
    known = [path for path in paths if path is not None and path.is_file()]
    return [saved.load(path) for path in known] if len(known) == len(paths) else []


def _interval(row: TableRow, loaded: Sequence[Predictions]) -> Interval | None:
    """Returns the report's interval of a single run, else that of all seeds over people."""
    if len(row.runs) == 1 or not loaded:
        ends = row.runs[0].interval if len(row.runs) == 1 else None
        return None if ends is None else Interval(*ends)
    names = loaded[0].label_names
    if any(one.label_names != names for one in loaded):
        return None
    pooled = saved.join(
        loaded,
        ids=tuple(f"{number}/{name}" for number, one in enumerate(loaded) for name in one.ids),
        # An image without a person is its own group, shared by all seeds.
        groups=tuple(
            group or name
            for one in loaded
            for group, name in zip(one.groups, map(_record, one.ids), strict=True)
        ),
    )
    return Groups.of(pooled).interval(accuracy)


def _record(name: str) -> str:
    """Returns the record of a pooled report's id, which may begin with its seed."""
    first, _, rest = name.partition("/")
    return rest if first.startswith("seed_") and rest else name


def _pairs(predictions: Sequence[Sequence[Predictions]]) -> Iterator[Pair]:
    """Yields the comparisons of the rows with the records of the first such row."""
    correct: list[dict[str, float]] = []
    numbers: list[int] = []
    groups: dict[str, str] = {}
    for number, loaded in enumerate(predictions):
        right = _correct(loaded)
        if right and (not correct or right.keys() == correct[0].keys()):
            correct.append(right)
            numbers.append(number)
    if len(correct) < 2:
        return
    records = list(correct[0])
    for one in predictions[numbers[0]]:
        groups |= dict(zip(map(_record, one.ids), one.groups, strict=True))
    shares = np.array([[right[record] for record in records] for right in correct])
    for pair in paired.compare(shares, [groups[record] for record in records]):
        yield dataclasses.replace(pair, first=numbers[pair.first], second=numbers[pair.second])


def _correct(loaded: Sequence[Predictions]) -> dict[str, float]:
    """Returns the share of the seeds that recognize each record."""
    found: dict[str, list[bool]] = collections.defaultdict(list)
    for one in loaded:
        for name, is_right in zip(one.ids, (one.predicted == one.labels).tolist(), strict=True):
            found[_record(name)].append(is_right)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _differences(rows: Sequence[TableRow]) -> list[str]:
    """Returns the settings of each row that not all rows share; the network is named apart."""
    flat = [flatten(json.loads(row.runs[0].settings or "{}")) for row in rows]
    names = sorted({name for one in flat for name in one} - {"model.name"})
    shown = [name for name in names if len({json.dumps(one.get(name)) for one in flat}) > 1]
    return [
        " ".join(f"{name}={_value(one[name])}" for name in shown if name in one) for one in flat
    ]


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()
