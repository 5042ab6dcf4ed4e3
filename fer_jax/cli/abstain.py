"""The flag `--abstain` of the verbs that classify."""

from __future__ import annotations

import argparse

from fer_jax.errors import UserError


def add_flag(parser: argparse.ArgumentParser, effect: str) -> None:
    """Adds `--abstain`; `effect` is its help."""
    parser.add_argument("--abstain", type=_threshold, default=0.0, metavar="P", help=effect)


def _threshold(text: str) -> float:
    """Returns a top probability.

    Raises:
      UserError: it is no answer at all, or out of range.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UserError(f"expected --abstain from 0 to below 1, found {text}")
    return value
