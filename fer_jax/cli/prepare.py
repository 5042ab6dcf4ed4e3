"""Prepares a data set for training, and reports the images found, used and dropped.

fer-jax prepare kdef --manual_dir ~/Downloads
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_jax import buckets
from fer_jax.cli.plugins import add_flag as add_plugins
from fer_jax.cli.workers import add_flags, make_executor
from fer_jax.errors import UserError
from tfds_builders import prepare as builders
from tfds_builders import summary


def main(arguments: Sequence[str]) -> None:
    """Prepares the set if necessary, and prints its summary.

    Raises:
      UserError: Invalid input.
    """
    options = parse(arguments)
    crop = {field: getattr(options, flag) for flag, field in builders.CROP_FLAGS.items()}
    prepared = builders.prepare(
        options.name,
        options.config,
        options.data_dir,
        options.manual_dir,
        protocol=options.protocol,
        seed=options.protocol_seed,
        crop=crop,
        rebuild=options.rebuild,
        relabel=options.relabel,
        executor=make_executor(options),
    )
    if options.manual_dir and not buckets.local_path(options.manual_dir).exists():
        raise UserError(
            f"expected a copy of {options.name} in {options.manual_dir}, found no such folder. To "
            f"see what was prepared in {prepared.builder.data_dir}, leave --manual_dir out."
        )
    if not prepared.is_new:  # otherwise `prepare` has printed it
        print("already prepared, nothing to do:")
        print(summary.describe(prepared), flush=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax prepare", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("name", help=f"the data set: {', '.join(builders.NAMES)}")
    parser.add_argument("--manual_dir", help="your copy of the set: archive, or folder with it")
    parser.add_argument(
        "--data_dir",
        help="where prepared sets are kept, also gs://bucket/data (default: as in TFDS)",
    )
    parser.add_argument("--config", help="how faces are cropped; each set's README lists its own")
    parser.add_argument("--protocol", help="who is in which split; such as subject or fold1of10")
    parser.add_argument("--protocol_seed", type=int, default=0, help="seed of a random protocol")
    parser.add_argument("--margin", type=float, help="around the face, as a share of its box")
    parser.add_argument("--min_share", type=float, help="smallest face, as a share of the image")
    parser.add_argument("--detector", help="mtcnn, haar, haar_frontal, or a YuNet model file")
    parser.add_argument("--fallback", help="where no face is found: view or whole")
    parser.add_argument("--size", type=int, help="longest side of the stored faces, pixels")
    parser.add_argument("--relabel", help="a relabel.csv: the summary counts the changed labels")
    parser.add_argument("--rebuild", action="store_true", help="replace what was prepared before")
    add_plugins(parser)
    add_flags(parser)
    return parser.parse_args(arguments)
