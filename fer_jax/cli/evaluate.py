"""Evaluates a run's best checkpoint on a split and writes the report.

fer-jax evaluate runs/demo --split test
fer-jax evaluate runs/kdef --data raf_db
fer-jax evaluate runs/a runs/b runs/c
fer-jax evaluate emotions.onnx --data fer2013
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax.buckets import path_or_url
from fer_jax.cli.abstain import add_flag as add_abstain
from fer_jax.cli.plugins import add_flag as add_plugins
from fer_jax.errors import UserError

if TYPE_CHECKING:
    from fer_jax.experiments.evaluate import OtherData
    from fer_jax.run_dir import Run


def main(arguments: Sequence[str]) -> None:
    """Writes the report and prints it.

    Raises:
      UserError: no run, no checkpoint, or data that cannot be used.
    """
    options = parse(arguments)
    from fer_jax import run_dir
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.experiments.evaluate import OtherData, print_report
    from fer_jax.runtime import compile_cache

    other = OtherData(
        options.data, options.variant, options.protocol, options.data_dir, options.manual_dir,
        options.unmapped, options.faces, options.relabel,
    )  # fmt: skip
    quiet_orbax()
    compile_cache.enable()
    first = options.runs[0]
    if isinstance(first, Path) and first.suffix == ".onnx" and len(options.runs) == 1:
        from fer_jax.experiments.foreign import evaluate_foreign

        print_report(evaluate_foreign(first, options.split, other, options.abstain))
        return
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(run_dir.opened(place)) for place in options.runs]
        _evaluate(runs, other, options)


def _evaluate(runs: Sequence[Run], other: OtherData, options: argparse.Namespace) -> None:
    from fer_jax.experiments.evaluate import evaluate, print_report

    if options.best_epoch_on_test:
        from fer_jax.experiments.best_on_test import report_best_on_test

        report_best_on_test(runs[0])
    elif len(runs) == 1:
        print_report(evaluate(runs[0], options.split, other, options.abstain))
    else:
        from fer_jax.experiments.ensemble import evaluate_ensemble

        print_report(evaluate_ensemble(runs, options.split, other, options.abstain))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
      UserError: a value out of range.
    """
    parser = argparse.ArgumentParser(
        prog="fer-jax evaluate", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "runs",
        type=path_or_url,
        nargs="+",
        metavar="RUN",
        help="run directory, such as runs/demo; several for an ensemble, the mean of their "
        "probabilities; or an ONNX file of somebody else, with a JSON file of its name that "
        "describes it",
    )
    parser.add_argument(
        "--split", default="test", help="train, validation, test or all of them (default: test)"
    )
    parser.add_argument("--data", help="another data set (default: the run's own)")
    parser.add_argument("--variant", help="how its faces are cropped (default: the set's own)")
    parser.add_argument("--protocol", help="who is in which split (default: the set's own)")
    parser.add_argument("--data_dir", help="where prepared sets are (default: the run's)")
    parser.add_argument("--manual_dir", help="your copy of the set, if it is not prepared yet")
    parser.add_argument(
        "--unmapped",
        choices=("refuse", "drop"),
        default="refuse",
        help="classes that the network does not have: stop, or leave their images out",
    )
    parser.add_argument(
        "--faces", choices=("largest", "whole"),
        help="whole: the stored images are faces already, framed like the run's; largest: detect "
        "the face in each (default: where another set is stored otherwise than the run's)",
    )  # fmt: skip
    add_plugins(parser)
    parser.add_argument(
        "--relabel", metavar="FILE",
        help="a relabel.csv; none for the set's own labels (default: the run's, on its own set)",
    )  # fmt: skip
    add_abstain(
        parser, "no answer below this top probability: coverage, and accuracy of the answers"
    )
    parser.add_argument(
        "--best_epoch_on_test", action="store_true",
        help="instead of a report: which epoch would have been the best on test, a figure that "
        "must not be reported; needs a run that kept every checkpoint (train.keep)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.best_epoch_on_test:
        _check_alone(parser, options)
    return options


def _check_alone(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses what --best_epoch_on_test would ignore."""
    free = ("runs", "plugins", "best_epoch_on_test")
    others = [
        f"--{name}"
        for name, value in vars(options).items()
        if name not in free and value != parser.get_default(name)
    ]
    if others or len(options.runs) > 1:
        found = ", ".join(others) or f"{len(options.runs)} runs"
        raise UserError(
            "expected one RUN and no other flag with --best_epoch_on_test, which reads the run's "
            f"own test split, found {found}"
        )
