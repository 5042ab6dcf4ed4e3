"""Lists the labels of a data set that are probably wrong, for people to decide about.

fer-jax labels runs/kdef_crossval
fer-jax labels runs/fer2013 --out labels
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_jax.cli.plugins import add_flag as add_plugins
from fer_jax.errors import UserError
from fer_jax.files import local_path

_SHOWN = 1000


def main(arguments: Sequence[str]) -> None:
    """Prints the estimated errors of each class, and writes the suspects.

    Raises:
      UserError: no run or cross-validation, or data that cannot be used.
    """
    options = parse(arguments)
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.experiments import suspects
    from fer_jax.runtime import compile_cache

    quiet_orbax()
    compile_cache.enable()
    found = suspects.collect(options.run)
    errors = found.find_errors()
    for warning in found.warnings:
        print(f"# {warning}")
    print(suspects.summary(found, errors))
    print()
    for path in suspects.write(found, errors, options.out or found.folder, options.gallery):
        print(path)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
      UserError: a value out of range.
    """
    parser = argparse.ArgumentParser(
        prog="fer-jax labels", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "run",
        type=local_path,
        help="directory of a cross-validation, for all images of its set; or of a run, for its "
        "validation and test images",
    )
    parser.add_argument("--out", type=local_path, help="folder of the files (default: RUN/labels)")
    parser.add_argument(
        "--gallery", type=int, default=_SHOWN, metavar="N",
        help=f"images on the page, the most suspicious ones (default: {_SHOWN})",
    )  # fmt: skip
    add_plugins(parser)
    options = parser.parse_args(arguments)
    if options.gallery < 0:
        raise UserError(f"expected --gallery of at least 0 images, found {options.gallery}")
    return options
