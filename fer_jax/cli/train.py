"""Trains a network from one config file, evaluates it on test and writes the report.

    fer-jax train --config configs/demo.py --config.train.epochs=20

The same command resumes a run that was stopped, and repeats the report of a finished one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax import config as configuration

if TYPE_CHECKING:
    from fer_jax.run_dir import Run


def main(arguments: Sequence[str]) -> None:
    """Runs one config from data to report.

    Raises:
      UserError: wrong input.
      SystemExit: 128 + the signal's number after SIGINT, SIGTERM or SIGHUP.
    """
    options, overrides = parse(arguments)
    settings = configuration.load_settings(options.config, overrides)
    folder = options.workdir or Path("runs") / Path(options.config).stem

    # Imports of JAX, Orbax and TFDS take seconds; wrong input is reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.runtime import compile_cache, distributed, sharding

    quiet_orbax()
    distributed.start()
    sharding.all_devices()  # reports a platform that is not there
    if not distributed.is_lead():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - one process prints; all have stderr
    compile_cache.enable()
    from fer_jax.training.loop import InterruptedRunError
    from fer_jax.training.train import train

    try:
        run = train(settings, folder, options.profile_steps)
    except InterruptedRunError as stopped:
        if distributed.is_lead():
            print(f"stopped and saved; to continue: {_command(arguments)}", file=sys.stderr)
        raise SystemExit(128 + stopped.signal) from None
    _evaluate(run, arguments)


def _evaluate(run: Run, arguments: Sequence[str]) -> None:
    """Evaluates the trained run on test, and prints the report.

    Raises:
      SystemExit: as `main`.
    """
    from fer_jax.experiments import evaluate  # with Matplotlib: not before the first step
    from fer_jax.runtime import distributed, signals

    with contextlib.ExitStack() as stack:
        stopped: list[int] = []
        if distributed.is_single_process():  # else JAX handles SIGTERM for all processes
            stopped = stack.enter_context(signals.interrupt_on_terminate(signal.SIGINT))
        try:
            with distributed.report_lost_peers(run.checkpoints):
                found = evaluate.run_evaluation(run, split="test")
            if distributed.is_lead():
                evaluate.print_report(evaluate.report_evaluation(found))
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
    parser.add_argument("--config", required=True, help="config file, such as configs/demo.py")
    parser.add_argument("--workdir", type=Path, help="run directory (default: runs/<config name>)")
    parser.add_argument(
        "--profile_steps", type=int, default=0, metavar="N",
        help="trace N steps into the run directory, for TensorBoard's profile page",
    )  # fmt: skip
    options, rest = parser.parse_known_args(arguments)
    known = "--config FILE, --workdir DIR, --profile_steps N"
    return options, configuration.overrides_in(rest, known)
