"""Trains a network, evaluates it on test and writes the report.

    fer-jax train --config configs/demo.py --config.train.epochs=20
    fer-jax train --data FOLDER

A config file says what is trained on what; `--data` takes your own images and fits a recipe to
them.

The same command resumes a run that was stopped, and repeats the report of a finished one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax import config as configuration
from fer_jax.buckets import path_or_url
from fer_jax.errors import UserError
from fer_jax.working_copy import follow, working_copy

if TYPE_CHECKING:
    from fer_jax.run_dir import Run
    from fer_jax.settings import Settings


def main(arguments: Sequence[str]) -> None:
    """Runs one config, or a folder of images, from data to report.

    Raises:
      UserError: wrong input.
      SystemExit: 128 + the signal's number after SIGINT, SIGTERM or SIGHUP.
    """
    options, overrides = parse(arguments)
    lines: tuple[str, ...] = ()
    if options.data is not None:
        options.config, overrides, lines = _fit(options.data, overrides)
    settings = configuration.load_settings(options.config, overrides)
    place = options.workdir or Path("runs") / _run_name(options)

    # Imports of JAX, Orbax and TFDS take seconds; wrong input is reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.monitor.console import wrap
    from fer_jax.runtime import compile_cache, distributed, sharding

    quiet_orbax()
    distributed.start()
    sharding.all_devices()  # reports a platform that is not there
    if not distributed.is_lead():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - one process prints; all have stderr
    compile_cache.enable()
    for line in lines:
        print(*wrap(line), sep="\n", flush=True)
    with _opened(place, settings) as folder:
        _train(settings, folder, options.profile_steps, arguments)


def _train(settings: Settings, folder: Path, profile_steps: int, arguments: Sequence[str]) -> None:
    """Trains and evaluates.

    Raises:
      SystemExit: as `main`.
    """
    from fer_jax.experiments.distillation import teach
    from fer_jax.runtime import distributed
    from fer_jax.training.loop import InterruptedRunError
    from fer_jax.training.train import train

    try:
        teach(settings, folder)
        run = train(settings, folder, profile_steps)
    except InterruptedRunError as stopped:
        if distributed.is_lead():
            print(f"stopped and saved; to continue: {_command(arguments)}", file=sys.stderr)
        raise SystemExit(128 + stopped.signal) from None
    _evaluate(run, arguments)


@contextlib.contextmanager
def _opened(place: Path | str, settings: Settings) -> Iterator[Path]:
    """Yields the run directory; in a bucket the lead process writes it, and the others follow.

    Raises:
      UserError: processes share one state, and each would write its part of it to its own disk.
    """
    import jax

    from fer_jax.runtime import distributed

    if isinstance(place, Path):
        yield place
        return
    if settings.train.fsdp > jax.local_device_count() and not distributed.is_single_process():
        raise UserError(
            "expected a disk that all processes share with config.train.fsdp="
            f"{settings.train.fsdp} over several of them, found {place}; mount one, or choose at "
            f"most {jax.local_device_count()}, the devices of a process"
        )
    with contextlib.ExitStack() as stack:
        yield distributed.lead_first(
            lambda: stack.enter_context(working_copy(place)), lambda: follow(place)
        )


def _evaluate(run: Run, arguments: Sequence[str]) -> None:
    """Evaluates the trained run on test, and prints the report.

    Raises:
      SystemExit: as `main`.
    """
    # With Matplotlib: not before the first step.
    from fer_jax.experiments import calibrate, evaluate
    from fer_jax.runtime import distributed, signals

    with contextlib.ExitStack() as stack:
        stopped: list[int] = []
        if distributed.is_single_process():  # else JAX handles SIGTERM for all processes
            stopped = stack.enter_context(signals.interrupt_on_terminate(signal.SIGINT))
        try:
            with distributed.report_lost_peers(run.checkpoints):
                distributed.lead_first(lambda: run, lambda: run)  # the others need its weights
                if run.settings.eval.calibrate:
                    calibrate.calibrate(run)
                found = evaluate.run_evaluation(run, split="test")
            if distributed.is_lead():
                evaluate.print_report(evaluate.report_training(found))
        except KeyboardInterrupt:
            if not stopped:
                raise
    if stopped:
        print(
            f"stopped; the trained run is saved, to evaluate it: {_command(arguments)}",
            file=sys.stderr,
        )
        raise SystemExit(128 + stopped[0])


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "fer_jax", "train", *arguments])


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
        description=(__doc__ or "").split("\n")[0],
        epilog="Any field of configs/defaults.py: --config.train.epochs=50. "
        "Exit codes: 0 finished, 2 wrong input, 75 another process of the "
        "job is gone, 130 stopped by Ctrl-C, 143 by SIGTERM and 129 by SIGHUP (saved).",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="config file, such as configs/demo.py")
    what.add_argument(
        "--data", metavar="FOLDER",
        help="your own images, one folder per class, also below one folder per person",
    )  # fmt: skip
    parser.add_argument(
        "--workdir",
        type=path_or_url,
        help="run directory, also gs://bucket/run (default: runs/<name of the config or folder>)",
    )
    parser.add_argument(
        "--profile_steps", type=int, default=0, metavar="N",
        help="trace N steps into the run directory, for TensorBoard's profile page",
    )  # fmt: skip
    options, rest = parser.parse_known_args(arguments)
    known = "--config FILE, --data FOLDER, --workdir DIR, --profile_steps N"
    return options, configuration.overrides_in(rest, known)
