"""Trains and tests every combination of settings with every seed, and ranks them.

    fer-jax sweep --config configs/ferplus.py --seeds 0,1,2 \
        --grid model.name=light_vgg,resnet18 --grid train.balance=none,sqrt

The same command resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_jax import config as configuration
from fer_jax.cli.crossval import seeds_of
from fer_jax.errors import UserError
from fer_jax.files import local_path
from fer_jax.settings import Settings


def main(arguments: Sequence[str]) -> None:
    """Runs the sweep, prints the ranking and writes it into the folder.

    Raises:
      UserError: wrong input.
      SystemExit: 128 + the signal's number after SIGINT or SIGTERM; the exit code of a job that
        failed.
    """
    options, overrides = parse(arguments)
    grid = grid_of(options.grid)

    def load(point: Mapping[str, str]) -> Settings:
        values = [f"{field}={value}" for field, value in point.items()]
        return configuration.load_settings(options.config, [*overrides, *values])

    seeds = seeds_of(options.seeds, load({}).seed)
    folder = options.workdir or Path("runs") / f"{Path(options.config).stem}_sweep"

    # Imports of JAX, Orbax and TFDS take seconds; wrong input is reported before.
    from fer_jax.cli import summary
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.experiments import comparison
    from fer_jax.experiments.sweep import plan, sweep
    from fer_jax.runtime import compile_cache
    from fer_jax.training.loop import InterruptedRunError

    quiet_orbax()
    compile_cache.enable()
    cells = plan(load, folder, grid, seeds)
    try:
        if options.jobs > 1:
            _start_jobs(arguments, options.jobs)
        else:
            sweep(cells, folder)
    except InterruptedRunError as stopped:
        command = shlex.join(["python", "-m", "fer_jax", "sweep", *arguments])
        print(f"stopped and saved; to continue: {command}", file=sys.stderr)
        raise SystemExit(128 + stopped.signal) from None
    if options.is_job:
        return
    reports, _ = comparison.read_runs([folder])
    for path in summary.show(reports, folder / "summary"):
        print(path)


def grid_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """Returns the values of each field of "model.name=light_vgg,resnet18".

    Values that contain commas themselves are separated by semicolons.

    Raises:
      UserError: no field, no values, or a field or value given twice.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        field, _, listed = text.removeprefix("config.").partition("=")
        values = [value for value in listed.split(";" if ";" in listed else ",") if value]
        if not field or not values or field in grid or len(set(values)) < len(values):
            raise UserError(
                "expected --grid as FIELD=VALUE,VALUE with different values, each field once, "
                f"found {text!r}"
            )
        if field == "seed":
            raise UserError("expected --seeds for the seeds, found --grid seed")
        grid[field] = values
    return grid


def _start_jobs(arguments: Sequence[str], jobs: int) -> None:
    """Runs the sweep in processes, each on a GPU of its own if there are GPUs.

    Raises:
      SystemExit: with the exit code of the first job that failed.
    """
    command = [sys.executable, "-m", "fer_jax", "sweep", *_without_jobs(arguments), "--is_job"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = visible.split(",") if visible else [str(number) for number in range(jobs)]
    processes = []
    for number in range(jobs):
        device = {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]}
        processes.append(subprocess.Popen(command, env=os.environ | device))
    try:
        codes = [process.wait() for process in processes]
    except KeyboardInterrupt:  # the jobs of the terminal have received the signal, and save
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
    if failed := [code for code in codes if code]:
        raise SystemExit(failed[0])


def _without_jobs(arguments: Sequence[str]) -> list[str]:
    kept = list(arguments)
    while "--jobs" in kept:
        del kept[kept.index("--jobs") : kept.index("--jobs") + 2]
    return [argument for argument in kept if not argument.startswith("--jobs=")]


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the overrides of config fields as "train.epochs=50"."""
    parser = argparse.ArgumentParser(
        prog="fer-jax sweep",
        description=(__doc__ or "").split("\n")[0],
        epilog="Any field of configs/defaults.py: --config.train.epochs=50",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="config file, such as configs/kdef.py")
    parser.add_argument("--workdir", type=local_path, help="default: runs/<config name>_sweep")
    parser.add_argument(
        "--grid", action="append", default=[], metavar="FIELD=VALUE,...",
        help="values of a config field; repeated for several fields, whose values are combined. "
        "Values with commas are separated by semicolons",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", default="1",
        help="number of seeds for each combination, or the seeds, such as 0,1,2 (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=1,
        help="processes that train at the same time, one per GPU (default: 1)",
    )  # fmt: skip
    parser.add_argument("--is_job", action="store_true", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args(arguments)
    if options.jobs < 1:
        raise UserError(f"expected --jobs of at least 1, found {options.jobs}")
    known = "--config FILE, --workdir DIR, --grid FIELD=VALUES, --seeds N, --jobs N"
    return options, configuration.overrides_in(rest, known)
