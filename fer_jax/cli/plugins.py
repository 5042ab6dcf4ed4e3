"""The flag `--plugins` of the verbs that open a run."""

from __future__ import annotations

import argparse

from fer_jax import plugins


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--plugins`; the files and modules that it names are imported when it is parsed."""
    parser.add_argument(
        "--plugins", type=lambda text: plugins.load(text.split(",")), metavar="FILE,...",
        help="your own parts that the run was trained with: .py files or modules. They are code",
    )  # fmt: skip
