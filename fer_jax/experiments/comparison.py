"""Compares reports of runs with the paper's Table 1, and with each other across data sets.

Reads the report.json files in run directories; nothing is evaluated here, and JAX is not needed.
`comparison_tables` formats the tables.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_jax.errors import UserError
from fer_jax.printable import printable


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of the paper's Table 1 (Borgalli & Surve).

    Attributes:
      dataset: name of the data set in this project.
      title: name of the data set in the paper.
      model: name of the network in this project.
      network: name of the network in the paper.
      accuracy: test accuracy.
      protocol: how the data was split, as far as the paper states it.
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
        "sfew", "SFEW", "inception_resnet_v2", "InceptionResNetV2", 0.4078, "custom split"
    ),
    Published(
        "amfed_plus", "AM-FED+", "inception_resnet_v2", "InceptionResNetV2", 0.5413,
        "custom split, derived labels",
    ),
    Published("raf_db", "RAF-DB", "light_vgg", "LightVGG", 0.7526, "official"),
    Published("kdef", "KDEF", "custom_cnn", "custom CNN", 0.9963, "random split, shared subjects"),
)  # fmt: skip


CROSSVAL = "crossval.json"
"""File of a cross-validation's directory: its folds and seeds, and digests of its data."""

SWEEP = "sweep.json"
"""File of a sweep's directory: the fields that are swept. Its runs are below it."""

FOREIGN = "foreign.json"
"""File of the directory of a model that this project did not train: its description."""

UNCHECKED = "UNCHECKED"
"""Mark of a report that does not know what the network learned from."""


_UNKNOWN = "unknown"  # data of a foreign model or of an ensemble


@dataclasses.dataclass(frozen=True)
class RunReport:
    """One report of a run.

    Attributes:
      run: name of the run.
      trained_on: training data set.
      trained_by: protocol of the training data set.
      dataset: evaluated data set.
      config: builder config of the evaluated data set, or "".
      protocol: protocol of the evaluated data set.
      split: evaluated split.
      model: name of the network.
      seeds: seed of the run, or all pooled seeds.
      folds: number of pooled folds; 1 for a single split.
      count: number of images.
      accuracy: accuracy.
      balanced_accuracy: mean recall.
      interval: low and high end of the interval of the accuracy; None if there is none.
      marks: the report's warnings in short, such as "STAND-IN".
      settings: the run's configuration without its seed, to group runs.
      interval_method: what the interval is over, or why there is none.
      macro_f1: mean F1; None in reports that lack it.
      parameters: number of parameters of the network; 0 if unknown.
      predictions: path of predictions.csv; None if unknown.
    """

    run: str
    trained_on: str
    trained_by: str
    dataset: str
    config: str
    protocol: str
    split: str
    model: str
    seeds: tuple[int, ...]
    folds: int
    count: int
    accuracy: float
    balanced_accuracy: float
    interval: tuple[float, float] | None
    marks: tuple[str, ...]
    settings: str = ""
    interval_method: str = ""
    macro_f1: float | None = None
    parameters: int = 0
    predictions: Path | None = None

    @property
    def leak(self) -> tuple[bool, bool, bool]:
        """Orders reports of a run: less of what the network learned from comes first."""
        return "LEAK" in self.marks, UNCHECKED in self.marks, "NEAR-DUPLICATES" in self.marks


@dataclasses.dataclass(frozen=True)
class TableRow:
    """Runs that differ only in their seed, beside the paper's result.

    Attributes:
      published: the paper's result for the data set; None if it has none.
      runs: the reports; empty if there is no run on the data set.
    """

    published: Published | None
    runs: tuple[RunReport, ...]

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
        """Standard deviation of the accuracy over the runs; None for a single run."""
        return statistics.stdev(run.accuracy for run in self.runs) if len(self.runs) > 1 else None

    @property
    def macro_f1(self) -> float | None:
        """Mean over the runs; None if one lacks it."""
        values = [run.macro_f1 for run in self.runs if run.macro_f1 is not None]
        return statistics.fmean(values) if len(values) == len(self.runs) else None

    @property
    def marks(self) -> tuple[str, ...]:
        """The runs' marks; one that not all have says how many."""
        counts = collections.Counter(mark for run in self.runs for mark in run.marks)
        whole = len(self.runs)
        return tuple(
            mark if count == whole else f"{mark} ({count} of {whole} runs)"
            for mark, count in counts.items()
        )

    @property
    def folds(self) -> int:
        """Number of pooled folds of each run."""
        return self.runs[0].folds

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len({seed for run in self.runs for seed in run.seeds})


def read_runs(folders: Iterable[Path]) -> tuple[list[RunReport], list[str]]:
    """Returns the reports in the run directories, and a remark for each directory without one.

    The directory of a cross-validation has one report, which pools its runs; that of a sweep
    stands for its runs.

    Raises:
      UserError: there is no report at all.
    """
    reports, remarks = [], []
    for folder in _expanded(folders):
        is_crossval = (folder / CROSSVAL).is_file()
        is_run = any((folder / name).is_file() for name in ("run.json", FOREIGN))
        if not (is_crossval or is_run or _is_ensemble(folder)):
            remarks.append(f"{folder}: not a run directory")
            continue
        paths = sorted((folder / "report" if is_crossval else folder).rglob("report.json"))
        for path in paths:
            try:
                reports.append(_read(folder, path))
            except Exception as error:  # noqa: BLE001 - a damaged report raises almost anything
                remarks.append(f"{path}: cannot be read ({type(error).__name__}: {error})")
        if not paths:
            state = "cross-validation not finished" if is_crossval else "not evaluated"
            remarks.append(f"{folder}: {state} yet")
    if not reports:
        raise UserError(
            "expected run directories with a report, found none"
            + (f" ({'; '.join(remarks)})" if remarks else "")
            + "; make one with: fer-jax evaluate RUN"
        )
    return reports, remarks


def _is_ensemble(folder: Path) -> bool:
    """Whether the folder holds the evaluations of an ensemble, which is not a run of its own."""
    return (folder / "evaluations").is_dir() and not (folder / "run.json").exists()


def _expanded(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if (folder / SWEEP).is_file():
            yield from sorted(path.parent for path in folder.glob("*/*/run.json"))
        else:
            yield folder


def table_1(reports: Sequence[RunReport]) -> list[TableRow]:
    """Returns a row per network and protocol: the paper's data sets in its order, then others.

    If a run was evaluated on several splits or protocols of its data set, those that leak more
    are not shown; of the others only test.
    """
    chosen = _chosen(one for one in reports if one.dataset == one.trained_on)
    rows = []
    for published in TABLE_1:
        of_set = _grouped(one for one in chosen if one.dataset == published.dataset)
        # The paper's network first.
        of_set.sort(key=lambda runs: runs[0].model != published.model)
        rows += [TableRow(published, runs) for runs in of_set] or [TableRow(published, ())]
    known = {published.dataset for published in TABLE_1}
    others = _grouped(one for one in chosen if one.dataset not in known)
    return rows + [TableRow(None, runs) for runs in others]


def own_rows(reports: Sequence[RunReport]) -> list[TableRow]:
    """Returns a row for each network, settings and protocol, of the reports that leak least.

    Models of others have no data set of their own, and are in it with every data set.
    """
    own = (one for one in reports if one.trained_on in (one.dataset, _UNKNOWN))
    return [TableRow(None, runs) for runs in _grouped(_chosen(own))]


def _chosen(reports: Iterable[RunReport]) -> list[RunReport]:
    """Of each run those that leak least; of those only test, if a protocol has it."""
    own = sorted(reports, key=lambda one: one.leak, reverse=True)
    least = {one.run: one.leak for one in own}
    own = [one for one in own if one.leak == least[one.run]]
    tested = {(one.run, one.protocol) for one in own if one.split == "test"}
    return [one for one in own if one.split == "test" or (one.run, one.protocol) not in tested]


@dataclasses.dataclass(frozen=True)
class CrossMatrix:
    """Accuracy of runs of each data set on every data set.

    Attributes:
      trained: training set, protocol, network and run names of each row.
      evaluated: evaluated data set of each column.
      cells: by row and column; None if not evaluated.
    """

    trained: tuple[tuple[str, str, str, str], ...]
    evaluated: tuple[str, ...]
    cells: tuple[tuple[TableRow | None, ...], ...]


def cross_matrix(reports: Sequence[RunReport]) -> CrossMatrix | None:
    """Returns the cross-data-set matrix; None if no run was evaluated on another data set."""
    if all(one.dataset == one.trained_on for one in reports):
        return None
    rows: dict[tuple[str, str, str, str], dict[str, dict[str, RunReport]]] = {}
    # Of several evaluations of a run on a data set, the one that leaks least is shown, test first.
    for one in sorted(
        reports,
        key=lambda one: (
            one.trained_on, one.run, one.leak, one.split != "test", one.protocol != one.trained_by
        ),
    ):  # fmt: skip
        row = rows.setdefault((one.trained_on, one.trained_by, one.model, one.settings), {})
        row.setdefault(one.dataset, {}).setdefault(one.run, one)
    evaluated = tuple(sorted({one.dataset for one in reports}))
    cells = tuple(
        tuple(
            TableRow(None, tuple(row[column].values())) if column in row else None
            for column in evaluated
        )
        for row in rows.values()
    )
    trained = tuple(
        (dataset, protocol, model, summarize_names({run for runs in row.values() for run in runs}))
        for (dataset, protocol, model, _), row in rows.items()
    )
    return CrossMatrix(trained, evaluated, cells)


def summarize_names(runs: Iterable[str]) -> str:
    """Returns the first name and the number of others, such as "a and 2 more"."""
    first, *more = sorted(runs)
    return f"{first} and {len(more)} more" if more else first


# Fields that may differ within a row, and the values that replace them for grouping.
_UNGROUPED: dict[str, Any] = {
    "run": "", "seeds": (), "count": 0, "accuracy": 0.0, "balanced_accuracy": 0.0,
    "interval": None, "interval_method": "", "macro_f1": None, "predictions": None,
}  # fmt: skip


_OUTCOMES = {"DEAD UNITS", "COLLAPSE", "CHANCE"}
"""Marks of what a network became. Runs that differ in them alone are of the same settings: without
the seeds that failed, a mean would be too high."""


def _grouped(reports: Iterable[RunReport]) -> list[tuple[RunReport, ...]]:
    """Groups reports that differ only in run and seed, of as many seeds each."""
    groups: dict[Any, list[RunReport]] = collections.defaultdict(list)
    for one in sorted(reports, key=lambda one: (one.dataset, one.protocol, one.model, one.seeds)):
        marks = tuple(mark for mark in one.marks if mark not in _OUTCOMES)
        key = dataclasses.replace(one, **_UNGROUPED, marks=marks)
        groups[key, len(one.seeds)].append(one)
    return [tuple(group) for group in groups.values()]


def _read(folder: Path, path: Path) -> RunReport:
    report = json.loads(path.read_text(encoding="utf-8"))
    pooled = _read_crossval(folder)
    inner = folder if pooled is None else min(folder.rglob("run.json")).parent
    card = report["card"]
    run: dict[str, Any] = {"data": {"name": _UNKNOWN}}
    is_run = not card.get("foreign") and not _is_ensemble(folder)
    if is_run:
        run = json.loads((inner / "run.json").read_text(encoding="utf-8"))
    intervals = report["intervals"]
    ends = intervals["accuracy"]
    return RunReport(
        run=_name(folder),
        trained_on=_text(run["data"]["name"]).split("/")[0],
        trained_by=_text((run["data"] if pooled is None else card).get("protocol", "")),
        dataset=_text(card["dataset"]),
        config=_text(card.get("config", "")),
        protocol=_text(card["protocol"]),
        split=_text(card["split"]),
        model=_text(card["model"]),
        seeds=_seeds(card, (pooled or {}).get("seeds", ())),
        folds=int(card.get("folds", 0)) or 1,  # 0: not a cross-validation
        count=int(report["count"]),
        accuracy=_share(report["accuracy"]),
        balanced_accuracy=_share(report["balanced_accuracy"]),
        interval=None if ends is None else (_share(ends[0]), _share(ends[1])),
        marks=_marks(report, is_own=path.parent == folder / "report"),
        settings=_settings(inner, pooled is not None) if is_run else "",
        interval_method=_text(intervals.get("method", "")),
        macro_f1=_share(report["macro"]["f1"]) if "macro" in report else None,
        parameters=int(card.get("parameters", 0)),
        predictions=path.with_name("predictions.csv"),
    )


def _name(folder: Path) -> str:
    """Returns the name of a run; of a run of a sweep with the folders that tell it apart."""
    path = folder.absolute()
    return "/".join(path.parts[-3:]) if (path.parents[1] / SWEEP).is_file() else path.name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {value!r}")
    return printable(value)


def _share(value: Any) -> float:
    if not 0 <= (share := float(value)) <= 1:
        raise ValueError(f"expected a number in [0, 1], found {value!r}")
    return share


def _marks(report: Mapping[str, Any], *, is_own: bool) -> tuple[str, ...]:
    """Returns the names of the report's banners.

    Reports of older versions counted leaks within the splits of their protocol only, which says
    nothing about other evaluations of a run than its own test split.
    """
    marks = tuple(_text(line).split(":")[0] for line in report["warnings"])
    is_counted = is_own or report["card"].get("overlap") is not None
    return marks if is_counted else (*marks, UNCHECKED)


def _read_crossval(folder: Path) -> dict[str, Any] | None:
    """Returns the description of a cross-validation; None for a run directory."""
    if not (folder / CROSSVAL).is_file():
        return None
    stored: dict[str, Any] = json.loads((folder / CROSSVAL).read_text(encoding="utf-8"))
    return stored


def _seeds(card: Mapping[str, Any], listed: Sequence[int]) -> tuple[int, ...]:
    """Returns the pooled seeds: those listed, unless the report is of fewer or more."""
    first, count = int(card["seed"]), int(card.get("seeds", 1))
    return tuple(listed) if len(listed) == count else tuple(range(first, first + count))


def _settings(folder: Path, is_fold: bool) -> str:
    """Returns the run's configuration without its seed and data folders, and without its fold."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("seed", None)
    data = {key: value for key, value in config["data"].items() if "dir" not in key}
    if is_fold:
        data.pop("protocol", None)
    return json.dumps({**config, "data": data}, sort_keys=True)
