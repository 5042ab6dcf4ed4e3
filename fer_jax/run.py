"""The run directory: what a run is, written once at its start and read by every later verb.

    config.json      every field of the configuration
    run.json         classes, preprocessing, data, versions: what prediction repeats
    model.txt        the network's arrays, for people
    checkpoints/     engine.checkpoint's
    metrics.jsonl    one line per logged step; TensorBoard's events lie beside it
    report/          of the evaluation

A directory may be moved; no path to itself is stored in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import fer_jax
from fer_jax import config as configuration
from fer_jax import files
from fer_jax.data.preprocess import Preprocessing
from fer_jax.errors import UserError

FORMAT = 2
"""Raised when an older fer_jax could not read the directory."""

CHANGEABLE = frozenset(
    {
        "data.dir",
        "data.manual_dir",
        "eval.batch_size",
        "eval.samples",
        "model.pretrained",  # which file it is, not what is in it
        "train.log_steps",
    }
)
"""Fields that a resumed run may have otherwise than it began: none touches the parameters."""

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
      data: name, config and the digest of each split that training uses.
      weights: the file that the network began with, as `Weights.to_json`; None if it began
        with random weights.
    """

    folder: Path
    config: ConfigDict
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    data: dict[str, Any]
    weights: dict[str, Any] | None = None

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
) -> Run:
    """Begins a run in `folder`, or joins the one that is there if it is the same.

    Raises:
      UserError: the run that is there has another configuration, classes, data or weights;
        the message lists what differs.
    """
    run = Run(folder, config, labels, preprocessing, data, weights)
    if (folder / "run.json").exists():
        _check_same(open_run(folder), run)
    description = {
        "format": FORMAT,
        "labels": list(labels),
        "preprocessing": preprocessing.to_json(),
        "data": data,
        "weights": weights,
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
            "train one with: python -m fer_jax.main --config configs/demo.py"
        )
    try:
        description = json.loads((folder / "run.json").read_text())
        if description["format"] > FORMAT:
            raise UserError(
                f"the run {folder} was written by a newer fer_jax (format "
                f"{description['format']}, known {FORMAT}); upgrade fer_jax"
            )
        config = configuration.defaults()
        with config.unlocked():
            config.update(json.loads((folder / "config.json").read_text()))
        return Run(
            folder=folder,
            config=config,
            labels=tuple(description["labels"]),
            preprocessing=Preprocessing.from_json(description["preprocessing"]),
            data=description["data"],
            weights=description.get("weights"),  # format 1 has none
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the run {folder} cannot be read ({type(error).__name__}: {error}); "
            "restore its run.json and config.json or use another --workdir"
        ) from error


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
    differences = [
        *_differences(configuration.flatten(old.config), configuration.flatten(new.config)),
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


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    fields = sorted((old.keys() | new.keys()) - CHANGEABLE)
    return [
        f"{field}: {old.get(field)!r} then, {new.get(field)!r} now"
        for field in fields
        if old.get(field) != new.get(field)
    ]


def _dump(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
