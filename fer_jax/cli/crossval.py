"""Trains and tests on every fold of a data set, with several seeds, and pools the predictions.

    fer-jax crossval --config configs/kdef.py --folds 10 --seeds 3
    fer-jax crossval --config configs/raf_db.py --folds none --seeds 0,1,2

The same command resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_jax import config as configuration
from fer_jax.errors import UserError
from fer_jax.files import local_path


def main(arguments: Sequence[str]) -> None:
    """Runs all folds and seeds and prints the pooled report.

    Raises:
      UserError: wrong input.
      SystemExit: 128 + the signal's number after SIGINT or SIGTERM.
    """
    options, overrides = parse(arguments)
    settings = configuration.load_settings(options.config, overrides)
    seeds = seeds_of(options.seeds, settings.seed)
    folder = options.workdir or Path("runs") / f"{Path(options.config).stem}_crossval"

    # Imports of JAX, Orbax and TFDS take seconds; wrong input is reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.experiments import evaluate
    from fer_jax.experiments.crossval import crossval
    from fer_jax.runtime import compile_cache
    from fer_jax.training.loop import InterruptedRunError

    quiet_orbax()
    compile_cache.enable()
    try:
        paths = crossval(settings, folder, options.folds, seeds)
    except InterruptedRunError as stopped:
        command = shlex.join(["python", "-m", "fer_jax", "crossval", *arguments])
        print(f"stopped and saved; to continue: {command}", file=sys.stderr)
        raise SystemExit(128 + stopped.signal) from None
    evaluate.print_report(paths)


def seeds_of(text: str, first: int) -> list[int]:
    """Returns the seeds of --seeds: those listed, or a number of them from `first` on.

    Raises:
      UserError: the text is neither.
    """
    try:
        if "," in text:
            return [int(seed) for seed in text.split(",") if seed]
        return list(range(first, first + int(text)))
    except ValueError:
        raise UserError(
            f"expected --seeds as a number of seeds or a list such as 0,1,2, found {text!r}"
        ) from None


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the overrides of config fields as "train.epochs=50"."""
    parser = argparse.ArgumentParser(
        prog="fer-jax crossval",
        description=(__doc__ or "").split("\n")[0],
        epilog="Any field of configs/defaults.py: --config.train.epochs=50",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="config file, such as configs/kdef.py")
    parser.add_argument("--workdir", type=local_path, help="default: runs/<config name>_crossval")
    parser.add_argument(
        "--folds", type=lambda text: 0 if text == "none" else int(text), default=10,
        help="number of folds (default: 10); none: the config's own protocol, once per seed",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", default="1",
        help="number of seeds per fold, or the seeds, such as 0,1,2 (default: 1)",
    )  # fmt: skip
    options, rest = parser.parse_known_args(arguments)
    known = "--config FILE, --workdir DIR, --folds N, --seeds N"
    return options, configuration.overrides_in(rest, known)
