"""Prepares data, trains, evaluates on test and reports, all from one configuration.

    python -m fer_jax.main --config configs/demo.py --config.train.epochs=20

The same command again continues a run that was stopped, and repeats the report of a
finished one. Exit codes: 0 finished; 2 wrong input, a full disk or numbers that are not
finite, with a message; 130 stopped by Ctrl-C and 143 by SIGTERM, saved.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_jax import config as configuration
from fer_jax import errors, huge_pages


def main(arguments: Sequence[str]) -> None:
    """Runs one configuration from data to report.

    Raises:
      UserError: input that cannot be used.
      SystemExit: 128 + the signal's number when asked to stop.
    """
    options, overrides = parse(arguments)
    config = configuration.load(options.config, overrides)
    folder = options.workdir or Path("runs") / Path(options.config).stem

    # JAX, Orbax and TFDS take seconds to import: wrong input is answered before.
    from fer_jax.engine import compile_cache, distributed, foreseen

    distributed.start()
    if not distributed.is_lead():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - one process speaks; errors are stderr's
    compile_cache.enable()
    if not (folder / "report").exists():  # that of a finished run trains no more
        foreseen.begin(sorted(configuration.flatten(config).items()))
    from fer_jax import train
    from fer_jax.engine.loop import InterruptedRunError

    try:
        run = train.train(config, folder, options.profile_steps)
    except InterruptedRunError as stopped:
        command = shlex.join(["python", "-m", "fer_jax.main", *arguments])
        if distributed.is_lead():
            print(f"stopped and saved; to continue: {command}", file=sys.stderr)
        raise SystemExit(128 + stopped.signal) from None
    from fer_jax import evaluate  # and Matplotlib: the first step does not wait for it

    with distributed.peers_explained(run.checkpoints):
        found = evaluate.examine(run, split="test")
    if distributed.is_lead():
        evaluate.show(evaluate.report(found))


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the overrides of config fields as "train.epochs=50"."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_jax.main",
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


def cli() -> None:
    """What the command does, in the process of its caller."""
    with errors.exit_cleanly():
        main(sys.argv[1:])


def script() -> None:
    """The command, in a process that is its own and may begin again."""
    huge_pages.begin_again()
    cli()


if __name__ == "__main__":
    script()
