"""A sweep: trains and tests every combination of settings with every seed.

    fer-jax sweep --config configs/ferplus.py --seeds 0,1,2 --grid model.name=light_vgg,resnet18

Each is a run in WORKDIR/<settings>/seed_S; the same command resumes where it was stopped. Several
processes may work on one sweep: each takes the runs that no other works on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_jax import files, run_dir
from fer_jax.errors import UserError
from fer_jax.experiments.comparison import SWEEP
from fer_jax.experiments.crossval import train_and_test
from fer_jax.report.tables import duration
from fer_jax.settings import Settings
from fer_jax.training import train

_NAME_LENGTH = 80  # of a folder; file systems allow 255 bytes


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
      point: the settings of the grid, by field.
      seed: training seed.
      settings: settings of the run.
      folder: the run directory.
    """

    point: Mapping[str, str]
    seed: int
    settings: Settings
    folder: Path

    @property
    def name(self) -> str:
        """Settings and seed, for people."""
        return " ".join([*(f"{k}={v}" for k, v in self.point.items()), f"seed {self.seed}"])

    @property
    def is_finished(self) -> bool:
        """Whether the run has been tested."""
        return (self.folder / "report" / "predictions.csv").is_file()


def plan(
    load: Callable[[Mapping[str, str]], Settings],
    folder: Path,
    grid: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
) -> list[Cell]:
    """Returns the runs: all settings with the first seed, then with the next.

    Args:
      load: returns the settings of a point of the grid.
      folder: of the sweep.
      grid: values of each field.
      seeds: seeds of each point.

    Raises:
      UserError: no seed, one given twice, or settings that contradict each other.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"expected one or more different --seeds, found {list(seeds)}")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    loaded = [(point, load(point)) for point in points]
    return [
        Cell(point, seed, dataclasses.replace(settings, seed=seed), place / f"seed_{seed}")
        for seed in seeds
        for point, settings in loaded
        for place in [folder / _folder_name(point)]
    ]


def sweep(cells: Sequence[Cell], folder: Path) -> None:
    """Trains and tests the runs that are not finished and that no other process works on.

    A run that fails does not stop the others.

    Raises:
      UserError: wrong input, the folder has another sweep, or runs failed.
      InterruptedRunError: on SIGINT, SIGTERM or SIGHUP, after everything is saved.
    """
    _check_folder(cells, folder)
    for cell in cells:
        train.check(cell.settings)  # all before the first
    seconds: list[float] = []
    failures = []
    for number, cell in enumerate(cells, start=1):
        if cell.is_finished and run_dir.has_settings(cell.folder, cell.settings):
            continue
        with _claimed(cell.folder) as is_ours:
            if not is_ours:
                print(f"{cell.name}: another process works on it", flush=True)
                continue
            print(
                f"run {number} of {_progress(cells, seconds)}: {cell.name}\n{cell.folder}",
                flush=True,
            )
            started = time.monotonic()
            try:
                scores = train_and_test(cell.settings, cell.folder)
            except UserError as error:
                failures.append(f"{cell.name}: {error}")
                print(f"failed: {failures[-1]}", file=sys.stderr, flush=True)
                continue
            seconds.append(time.monotonic() - started)
            print(f"{cell.name}: accuracy {scores.accuracy:.4f}", flush=True)
    if failures:
        raise UserError(
            f"expected {len(cells)} finished runs, found {len(failures)} that failed: "
            f"{'; '.join(failures)}. The same command tries them again"
        )


def _progress(cells: Sequence[Cell], seconds: Sequence[float]) -> str:
    """Returns the number of runs, and the time left at the mean of the runs so far."""
    left = sum(not cell.is_finished for cell in cells)
    time_left = f", {duration(left * statistics.fmean(seconds))} left" if seconds else ""
    return f"{len(cells)}{time_left}"


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Yields whether this process may work on a run until the context ends.

    Raises:
      UserError: the folder cannot be written.
    """
    path = folder / ".sweep.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f"expected to write {folder}, found: {error.strerror}; choose another --workdir"
        ) from error
    try:
        yield files.lock(handle, path, wait=False)
    finally:
        os.close(handle)


def _folder_name(point: Mapping[str, str]) -> str:
    """Returns a readable name that differs for different settings; "runs" without any."""
    text = ",".join(f"{field.split('.')[-1]}={value}" for field, value in point.items()) or "runs"
    readable = re.sub(r"[^\w,=.+-]", "_", text)[:_NAME_LENGTH]
    full = ",".join(f"{field}={value}" for field, value in point.items())
    is_exact = readable == text and len({field.split(".")[-1] for field in point}) == len(point)
    return readable if is_exact else f"{readable}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"


def _check_folder(cells: Sequence[Cell], folder: Path) -> None:
    """Stores what is swept; a larger sweep of the same fields may follow in the folder.

    Raises:
      UserError: the folder has a sweep of other fields.
    """
    path = folder / SWEEP
    fields = list(cells[0].point)
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"fields": fields}
    if stored["fields"] != fields:
        raise UserError(
            f"expected a sweep of {', '.join(stored['fields']) or 'seeds alone'} in {folder}, "
            f"found --grid of {', '.join(fields) or 'nothing'}; choose another --workdir"
        )
    files.write_text(path, json.dumps(stored) + "\n")
