"""Trains a network, evaluates it on test and writes the report.

    fer-jax train --config configs/demo.py --config.train.epochs=20
    fer-jax train --data FOLDER

A config file says what is trained on what; `--data` takes your own images and fits a recipe to
them.

The same command resumes a run that was stopped, and repeats the report of a finished one.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_jax import config as configuration


def main(arguments: Sequence[str]) -> None:
    """Runs one config, or a folder of images, from data to report.

    Raises:
      UserError: wrong input.
      SystemExit: 128 + the signal's number after SIGINT or SIGTERM.
    """
    options, overrides = parse(arguments)
    lines: tuple[str, ...] = ()
    if options.data is not None:
        options.config, overrides, lines = _fit(options.data, overrides)
    settings = configuration.load_settings(options.config, overrides)
    folder = options.workdir or Path("runs") / _run_name(options)

    # Imports of JAX, Orbax and TFDS take seconds; wrong input is reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.runtime import compile_cache, distributed

    quiet_orbax()
    distributed.start()
    if not distributed.is_lead():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - one process prints; all have stderr
    compile_cache.enable()
    print(*lines, sep="\n", end="\n" if lines else "", flush=True)
    from fer_jax.training.loop import InterruptedRunError
    from fer_jax.training.train import train

    try:
        run = train(settings, folder, options.profile_steps)
    except InterruptedRunError as stopped:
        command = shlex.join(["python", "-m", "fer_jax", "train", *arguments])
        if distributed.is_lead():
            print(f"stopped and saved; to continue: {command}", file=sys.stderr)
        raise SystemExit(128 + stopped.signal) from None
    # With Matplotlib: not before the first step.
    from fer_jax.experiments import calibrate, evaluate

    with distributed.report_lost_peers(run.checkpoints):
        if settings.eval.calibrate:
            calibrate.calibrate(run)
        found = evaluate.run_evaluation(run, split="test")
    if distributed.is_lead():
        evaluate.print_report(evaluate.report_evaluation(found))


def _fit(data: str, overrides: Sequence[str]) -> tuple[str, list[str], tuple[str, ...]]:
    """Returns config file, overrides and a description for a folder of images."""
    from fer_jax.training import own_photos  # imports TFDS

    fitted = own_photos.fit(data, overrides)
    return own_photos.CONFIG, [*fitted.overrides, *overrides], fitted.lines


def _run_name(options: argparse.Namespace) -> str:
    """The name of the config, or that of the folder or archive of images."""
    if options.data is None:
        return Path(options.config).stem
    place = Path(options.data).expanduser().absolute()
    return place.name if place.is_dir() else place.stem


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the overrides of config fields as "train.epochs=50"."""
    parser = argparse.ArgumentParser(
        prog="fer-jax train",
        description=__doc__.split("\n")[0],
        epilog="Any field of configs/defaults.py: --config.train.epochs=50. "
        "Exit codes: 0 finished, 2 wrong input, 75 another process of the "
        "job is gone, 130 stopped by Ctrl-C and 143 by SIGTERM (saved).",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="config file, such as configs/demo.py")
    what.add_argument(
        "--data", metavar="FOLDER",
        help="your own images, one folder per class, also below one folder per person",
    )  # fmt: skip
    parser.add_argument(
        "--workdir", type=Path, help="run directory (default: runs/<name of the config or folder>)"
    )
    parser.add_argument(
        "--profile_steps", type=int, default=0, metavar="N",
        help="trace N steps into the run directory, for TensorBoard's profile page",
    )  # fmt: skip
    options, rest = parser.parse_known_args(arguments)
    known = "--config FILE, --data FOLDER, --workdir DIR, --profile_steps N"
    return options, configuration.overrides_in(rest, known)
