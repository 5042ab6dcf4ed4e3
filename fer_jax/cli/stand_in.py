"""Writes a stand-in for a data set: its exact files, with rendered faces.

fer-jax stand-in kdef OUT --scale 0.1
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_jax.files import local_path
from tfds_builders.stand_ins import write as stand_ins


def main(arguments: Sequence[str]) -> None:
    """Writes the files and says how to prepare them.

    Raises:
      UserError: wrong input.
    """
    options = parse(arguments)
    out = stand_ins.write(options.name, options.out, options.scale, packed=options.zip)
    print(f"{options.name}: stand-in (rendered faces, not the real set) in {out}")
    print(f"  fer-jax prepare {options.name} --manual_dir {out} --data_dir DIR")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax stand-in", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("name", help=f"the data set: {', '.join(stand_ins.NAMES)}")
    parser.add_argument("out", type=local_path, help="a new or empty folder")
    parser.add_argument(
        "--scale", type=float, default=0.05, help="share of the people (default: 0.05)"
    )
    parser.add_argument("--zip", action="store_true", help="write the archive, not its tree")
    return parser.parse_args(arguments)
