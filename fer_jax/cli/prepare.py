"""Prepares a data set for training and says what was found, used and dropped.

fer-jax prepare kdef --manual_dir ~/Downloads
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tfds_builders import prepare as builders
from tfds_builders import summary


def main(arguments: Sequence[str]) -> None:
    """Prepares the set, or says that it is prepared already, and prints the summary.

    Raises:
      UserError: wrong input.
    """
    options = parse(arguments)
    crop = {field: getattr(options, flag) for flag, field in builders.CROP_FLAGS.items()}
    before = builders.get(options.name, options.config, options.data_dir, options.manual_dir, crop)
    was_there = not options.rebuild and builders.is_whole(before)
    done = builders.prepare(
        options.name,
        options.config,
        options.data_dir,
        options.manual_dir,
        protocol=options.protocol,
        seed=options.protocol_seed,
        crop=crop,
        rebuild=options.rebuild,
    )
    if was_there:
        print("already prepared, nothing to do:")
        print(summary.describe(done), flush=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax prepare", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("name", help=f"the data set: {', '.join(builders.NAMES)}")
    parser.add_argument("--manual_dir", help="your copy of the set: archive, or folder with it")
    parser.add_argument("--data_dir", help="where prepared sets are kept (default: as in TFDS)")
    parser.add_argument("--config", help="how faces are cropped; each set's README lists its own")
    parser.add_argument("--protocol", help="who is in which split; such as subject or fold1of10")
    parser.add_argument("--protocol_seed", type=int, default=0, help="seed of a random protocol")
    parser.add_argument("--margin", type=float, help="around the face, as a share of its box")
    parser.add_argument("--min_share", type=float, help="smallest face, as a share of the image")
    parser.add_argument("--detector", help="haar, haar_frontal, or the file of a YuNet model")
    parser.add_argument("--fallback", help="where no face is found: view or whole")
    parser.add_argument("--size", type=int, help="longest side of the stored faces, pixels")
    parser.add_argument("--rebuild", action="store_true", help="replace what was prepared before")
    return parser.parse_args(arguments)
