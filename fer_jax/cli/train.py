"""Trains a network from one config file, evaluates it on test and writes the report.

    fer-jax train --config configs/demo.py --config.train.epochs=20

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
    """Runs one config from data to report.

    Raises:
      UserError: wrong input.
      SystemExit: 128 + the signal's number after SIGINT or SIGTERM.
    """
    options, overrides = parse(arguments)
    settings = configuration.load_settings(options.config, overrides)
    folder = options.workdir or Path("runs") / Path(options.config).stem

    # Imports of JAX, Orbax and TFDS take seconds; wrong input is reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.runtime import compile_cache, distributed

    quiet_orbax()
    distributed.start()
    if not distributed.is_lead():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - one process prints; all have stderr
    compile_cache.enable()
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
    parser.add_argument("--config", required=True, help="config file, such as configs/demo.py")
    parser.add_argument("--workdir", type=Path, help="run directory (default: runs/<config name>)")
    parser.add_argument(
        "--profile_steps", type=int, default=0, metavar="N",
        help="trace N steps into the run directory, for TensorBoard's profile page",
    )  # fmt: skip
    options, rest = parser.parse_known_args(arguments)
    known = "--config FILE, --workdir DIR, --profile_steps N"
    return options, configuration.overrides_in(rest, known)
