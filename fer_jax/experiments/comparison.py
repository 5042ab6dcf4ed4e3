"""Reports of runs beside the figures of the paper: its Table 1, and every set against every other.

Reads the report.json files below run directories; nothing is evaluated here, and JAX is not
needed. How a table looks is `summary`'s.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fer_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of the paper's Table 1 (Borgalli & Surve).

    Attributes:
      dataset: our name of the set.
      title: the paper's.
      model: our name of the network.
      network: the paper's.
      accuracy: on its test split.
      protocol: how it was split, as far as the paper says.
    """

    dataset: str
    title: str
    model: str
    network: str
    accuracy: float
    protocol: str


TABLE_1 = (
    Published("rafd", "RaFD", "vgg16", "VGG16", 0.6884, "random split"),
    Published(
        "sfew", "SFEW", "inception_resnet_v2", "InceptionResNetV2", 0.4078, "a split of its own"
    ),
    Published(
        "amfed_plus", "AM-FED+", "inception_resnet_v2", "InceptionResNetV2", 0.5413,
        "a split of its own, labels derived",
    ),
    Published("raf_db", "RAF-DB", "light_vgg", "LightVGG", 0.7526, "official"),
    Published("kdef", "KDEF", "custom_cnn", "custom CNN", 0.9963, "random split, same people"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """One report of a run.

    Attributes:
      run: name of the run.
      trained_on: the set that it was trained on.
      trained_by: the protocol of that set.
      dataset: the set that it was evaluated on.
      config: of that set, or "".
      protocol: of that set.
      split: of that set.
      model: name of the network.
      seed: of the run.
      folds: that the figures were pooled over; 1 where it is one split.
      seeds: that they were averaged over within the report.
      count: pictures.
      accuracy: the fraction right.
      balanced_accuracy: the mean recall.
      interval: of the accuracy, its low and high end.
      marks: what stands across the top of the report, in capitals.
      settings: tells runs apart that differ in more than their seed.
    """

    run: str
    trained_on: str
    trained_by: str
    dataset: str
    config: str
    protocol: str
    split: str
    model: str
    seed: int
    folds: int
    seeds: int
    count: int
    accuracy: float
    balanced_accuracy: float
    interval: tuple[float, float]
    marks: tuple[str, ...]
    settings: str = ""


@dataclasses.dataclass(frozen=True)
class Line:
    """Runs that differ in their seed alone, in one line of a table.

    Attributes:
      published: what the paper has for the set; None if nothing.
      runs: the reports; empty where the paper has a set that nobody ran.
    """

    published: Published | None
    runs: tuple[Evaluated, ...]

    @property
    def accuracy(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(run.accuracy for run in self.runs)

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(run.balanced_accuracy for run in self.runs)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the accuracy over the runs; None for one."""
        return statistics.stdev(run.accuracy for run in self.runs) if len(self.runs) > 1 else None

    @property
    def folds(self) -> int:
        """Folds that each run was pooled over."""
        return self.runs[0].folds

    @property
    def seeds(self) -> int:
        """Seeds behind the figures."""
        return sum({run.seed: run.seeds for run in self.runs}.values())


def read_runs(folders: Iterable[Path]) -> tuple[list[Evaluated], list[str]]:
    """Every report below the run directories, and a remark for each directory without one.

    Raises:
      UserError: not one report.
    """
    reports, remarks = [], []
    for folder in folders:
        if not (folder / "run.json").is_file():
            remarks.append(f"{folder}: no run directory")
            continue
        paths = sorted(folder.rglob("report.json"))
        for path in paths:
            try:
                reports.append(_read(folder, path))
            except (OSError, ValueError, KeyError, TypeError) as error:
                remarks.append(f"{path}: cannot be read ({type(error).__name__}: {error})")
        if not paths:
            remarks.append(f"{folder}: not evaluated yet")
    if not reports:
        raise UserError(
            "expected run directories with a report, found none"
            + (f" ({'; '.join(remarks)})" if remarks else "")
            + "; make one with: fer-jax evaluate RUN"
        )
    return reports, remarks


def table_1(reports: Sequence[Evaluated]) -> list[Line]:
    """The paper's sets in its order, then the others; a line per network and protocol.

    Of a run that was evaluated on several splits of its own set, test counts.
    """
    own = [one for one in reports if one.dataset == one.trained_on]
    tested = {(one.run, one.dataset, one.protocol) for one in own if one.split == "test"}
    chosen = [
        one
        for one in own
        if one.split == "test" or (one.run, one.dataset, one.protocol) not in tested
    ]
    lines = []
    for published in TABLE_1:
        of_set = _grouped(one for one in chosen if one.dataset == published.dataset)
        # The paper's own network first.
        of_set.sort(key=lambda runs: runs[0].model != published.model)
        lines += [Line(published, runs) for runs in of_set] or [Line(published, ())]
    known = {published.dataset for published in TABLE_1}
    others = _grouped(one for one in chosen if one.dataset not in known)
    return lines + [Line(None, runs) for runs in others]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """How well runs of each set read the others.

    Attributes:
      trained: set, protocol, network and name of the runs of each row.
      evaluated: set of each column.
      cells: by row and column; None where nobody looked.
    """

    trained: tuple[tuple[str, str, str, str], ...]
    evaluated: tuple[str, ...]
    cells: tuple[tuple[Line | None, ...], ...]


def cross_matrix(reports: Sequence[Evaluated]) -> Matrix | None:
    """Every set against every other, or None if no run was evaluated on another set."""
    if all(one.dataset == one.trained_on for one in reports):
        return None
    rows: dict[tuple[str, str, str, str], dict[str, dict[str, Evaluated]]] = {}
    # Of a set that was evaluated on several splits, test counts.
    for one in sorted(reports, key=lambda one: (one.trained_on, one.run, one.split != "test")):
        row = rows.setdefault((one.trained_on, one.trained_by, one.model, one.settings), {})
        row.setdefault(one.dataset, {}).setdefault(one.run, one)
    evaluated = tuple(sorted({one.dataset for one in reports}))
    cells = tuple(
        tuple(
            Line(None, tuple(row[column].values())) if column in row else None
            for column in evaluated
        )
        for row in rows.values()
    )
    trained = tuple(
        (dataset, protocol, model, names_of({run for found in row.values() for run in found}))
        for (dataset, protocol, model, _), row in rows.items()
    )
    return Matrix(trained, evaluated, cells)


def names_of(runs: Iterable[str]) -> str:
    """The first of several names, and how many there are more."""
    first, *more = sorted(runs)
    return f"{first} and {len(more)} more" if more else first


# What may differ within a line, and the values that stand for any.
_OF_ONE_RUN: dict[str, Any] = {
    "run": "", "seed": 0, "count": 0, "accuracy": 0.0, "balanced_accuracy": 0.0,
    "interval": (0.0, 0.0),
}  # fmt: skip


def _grouped(reports: Iterable[Evaluated]) -> list[tuple[Evaluated, ...]]:
    """Reports that differ in run and seed alone, together."""
    groups: dict[Any, list[Evaluated]] = collections.defaultdict(list)
    for one in sorted(reports, key=lambda one: (one.dataset, one.protocol, one.model, one.seed)):
        groups[dataclasses.replace(one, **_OF_ONE_RUN)].append(one)
    return [tuple(group) for group in groups.values()]


def _read(folder: Path, path: Path) -> Evaluated:
    report = json.loads(path.read_text())
    described = json.loads((folder / "run.json").read_text())
    card = report["card"]
    low, high = report["intervals"]["accuracy"]
    return Evaluated(
        run=folder.absolute().name,
        trained_on=str(described["data"]["name"]).split("/")[0],
        trained_by=str(described["data"].get("protocol", "")),
        dataset=card["dataset"],
        config=card.get("config", ""),
        protocol=card["protocol"],
        split=card["split"],
        model=card["model"],
        seed=int(card["seed"]),
        folds=int(card.get("folds", 1)),
        seeds=int(card.get("seeds", 1)),
        count=int(report["count"]),
        accuracy=float(report["accuracy"]),
        balanced_accuracy=float(report["balanced_accuracy"]),
        interval=(float(low), float(high)),
        marks=tuple(line.split(":")[0] for line in report["warnings"]),
        settings=_settings(folder),
    )


def _settings(folder: Path) -> str:
    """The run's configuration but its seed and where its data lies."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("seed", None)
    data = {key: value for key, value in config["data"].items() if "dir" not in key}
    return json.dumps({**config, "data": data}, sort_keys=True)
