"""The run directory: what a run is, written once at its start and read by every later verb.

    config.json      every field of the configuration
    run.json         classes, preprocessing, data, versions: what prediction repeats
    model.txt        the network's arrays, for people
    checkpoints/     engine.checkpoint's
    metrics.jsonl    one line per logged step; TensorBoard's events lie beside it
    summary.csv      one row per validation
    timing.json      what each sitting cost
    diverged.json    where the numbers stopped being finite, if they did
    report/          of the evaluation on the test split
    evaluations/     reports on other splits and other data

A directory may be moved; no path to itself is stored in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import fer_jax
from fer_jax import config as configuration
from fer_jax import files
from fer_jax.data.preprocess import Preprocessing
from fer_jax.errors import UserError

FORMAT = 3
"""Raised when an older fer_jax could not read the directory."""

CHANGEABLE = frozenset(
    {
        "data.dir",
        "data.manual_dir",
        "data.store",
        "eval.batch_size",
        "eval.explain",
        "eval.samples",
        "model.pretrained",  # which file it is, not what is in it
        "train.fsdp",
        "train.keep",
        "train.log_steps",
        "train.pictures",
    }
)
"""Fields that a resumed run may have otherwise than it began: none touches the parameters."""

LONGER = "train.epochs"
"""The field that may make a run longer; a schedule then follows its longer curve from there on."""

STEPS_PER_DISPATCH, TOTAL_STEPS = "steps_per_dispatch", "total_steps"

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "opencv-python-headless",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
      folder: where it is.
      config: the locked configuration.
      labels: the classes in index order.
      preprocessing: from a face to network input.
      data: name, protocol, face crop and the digest of each split that training uses.
      weights: the file that the network began with, as `Weights.to_json`; None if it began
        with random weights.
      engine: what the bits of the parameters depend on besides: steps per program, devices.
    """

    folder: Path
    config: ConfigDict
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    data: dict[str, Any]
    weights: dict[str, Any] | None = None
    engine: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.absolute().name

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The file of logged metrics."""
        return self.folder / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """The folder of the report."""
        return self.folder / "report"

    @property
    def evaluations(self) -> Path:
        """The folder of the reports on other splits and other data."""
        return self.folder / "evaluations"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run directory for one process; made if it is missing.

    The kernel frees the lock when the process ends, also by kill -9.

    Raises:
      UserError: it cannot be made or written, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f"expected to write the run directory {folder}, found: {error.strerror}; "
            "choose another with --workdir"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"another process is training in {folder}; wait for it or choose another --workdir"
        ) from None
    try:
        yield
    finally:
        os.close(handle)


def start(
    folder: Path,
    config: ConfigDict,
    labels: tuple[str, ...],
    preprocessing: Preprocessing,
    data: dict[str, Any],
    weights: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Run:
    """Begins a run in `folder`, or joins the one that is there if it is the same.

    A run that is joined keeps its `engine["steps_per_dispatch"]` where the configuration leaves
    it open. What may differ and does is told through `say`.

    Raises:
      UserError: the run that is there has another configuration, classes, data or weights;
        the message lists what differs.
    """
    run = Run(folder, config, labels, preprocessing, data, weights, engine or {})
    if (folder / "run.json").exists():
        old = open_run(folder)
        _check_same(old, run)
        if config.train.steps_per_dispatch is None and STEPS_PER_DISPATCH in old.engine:
            kept = {STEPS_PER_DISPATCH: old.engine[STEPS_PER_DISPATCH]}
            run = dataclasses.replace(run, engine={**run.engine, **kept})
        for line in _changes(old, run):
            say(f"{folder}: {line}")
    description = {
        "format": FORMAT,
        "labels": list(labels),
        "preprocessing": preprocessing.to_json(),
        "data": data,
        "weights": weights,
        "engine": run.engine,
        "versions": versions(),
    }
    files.write_text(folder / "config.json", _dump(config.to_dict()))
    # run.json last: a directory without it has not begun.
    files.write_text(folder / "run.json", _dump(description))
    return run


def open_run(folder: Path) -> Run:
    """Reads a run directory.

    Raises:
      UserError: there is no run, or one that this version cannot read.
    """
    if not (folder / "run.json").is_file():
        raise UserError(
            f"expected a run directory with a run.json, found none at {folder}; "
            "train one with: fer-jax train --config configs/demo.py"
        )
    try:
        description = json.loads((folder / "run.json").read_text())
        if description["format"] > FORMAT:
            raise UserError(
                f"the run {folder} was written by a newer fer_jax (format "
                f"{description['format']}, known {FORMAT}); upgrade fer_jax"
            )
        config = configuration.defaults()
        stored = json.loads((folder / "config.json").read_text())
        if description["format"] < 3:
            _name_protocol(stored["data"])
        with config.unlocked():
            config.update(stored)
        return Run(
            folder=folder,
            config=config,
            labels=tuple(description["labels"]),
            preprocessing=Preprocessing.from_json(description["preprocessing"]),
            data=description["data"],
            weights=description.get("weights"),  # format 1 has none
            engine=description.get("engine", {}),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the run {folder} cannot be read ({type(error).__name__}: {error}); "
            "restore its run.json and config.json or use another --workdir"
        ) from error


def _name_protocol(data: dict[str, Any]) -> None:
    """Until format 2 `data.config` named a protocol, except for the synthetic faces."""
    if data["name"] != "synthetic_faces":
        data["protocol"], data["config"] = data["config"], None


def continued(folder: Path, config: ConfigDict) -> Run | None:
    """The run in `folder` if a checkpoint stands in for the weights that it began with.

    None too where `config` names other first weights: those have to be compared.

    Raises:
      UserError: this version cannot read it.
    """
    if not (folder / "run.json").exists():
        return None
    run = open_run(folder)
    saved = run.checkpoints.is_dir() and any(
        path.name.isdigit() for path in run.checkpoints.iterdir()
    )
    same = run.config.model.pretrained == config.model.pretrained
    return run if saved and same else None


def report_warnings(run: Run) -> tuple[str, ...]:
    """What stands across the top of the run's report, such as STAND-IN; () if there is none.

    Whoever shows what the run says has to say this too.
    """
    try:
        stored = json.loads((run.report / "report.json").read_text())
        return tuple(str(line) for line in stored["warnings"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def versions() -> dict[str, str]:
    """What bit-identical repetition depends on, besides device kind, count and cores."""
    found = {package: _version(package) for package in _PACKAGES}
    return {
        "fer_jax": fer_jax.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()),
        **found,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _check_same(old: Run, new: Run) -> None:
    before, after = configuration.flatten(old.config), configuration.flatten(new.config)
    if new.engine.get(TOTAL_STEPS, 0) >= old.engine.get(TOTAL_STEPS, math.inf):
        after[LONGER] = before[LONGER]
    differences = [
        *_differences(before, after),
        *_differences({"labels": list(old.labels)}, {"labels": list(new.labels)}),
        *_differences(
            configuration.flatten(old.data, "data of the run: "),
            configuration.flatten(new.data, "data of the run: "),
        ),
        # By content: where the file lies, and what it is called, may change.
        *_differences(
            {"sha256 of the weights": (old.weights or {}).get("sha256")},
            {"sha256 of the weights": (new.weights or {}).get("sha256")},
        ),
    ]
    if differences:
        raise UserError(
            f"the run in {old.folder} began otherwise; continue it with the same settings, "
            "or choose another --workdir:\n  " + "\n  ".join(differences)
        )


def _changes(old: Run, new: Run) -> list[str]:
    """What differs and may."""
    before, after = configuration.flatten(old.config), configuration.flatten(new.config)
    lines = [
        f"{field} was {before.get(field)!r} and is {after[field]!r} from here on"
        for field in sorted(CHANGEABLE | {LONGER})
        if field in before and before[field] != after[field]
    ]
    if before[LONGER] != after[LONGER] and new.config.optim.schedule != "constant":
        lines.append(
            f"the learning rate follows the {new.config.optim.schedule} schedule of the longer run "
            "from here on: it is not the run that it would have been from the start"
        )
    lines += [
        f"{name} was {old.engine[name]} and is {found} from here on: the bits of the parameters "
        "may differ from an unbroken run's"
        for name, found in new.engine.items()
        if name != TOTAL_STEPS and old.engine.get(name, found) != found
    ]
    return lines


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    fields = sorted((old.keys() | new.keys()) - CHANGEABLE)
    return [
        f"{field}: {old.get(field)!r} then, {new.get(field)!r} now"
        for field in fields
        if old.get(field) != new.get(field)
    ]


def _dump(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
