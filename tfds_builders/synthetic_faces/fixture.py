"""The images of the `demo` config, which ship with the package.

They are stored beside this file, so that a first run does not need to render. After a
change of the renderer, render them again (2 minutes on 2 cores):

    python -m tfds_builders.synthetic_faces.fixture
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from collections.abc import Iterator

from fer_jax import errors
from tfds_builders.synthetic_faces import splits
from tfds_builders.synthface import archive, sets
from tfds_builders.synthface.spec import Spec

FOLDER = pathlib.Path(__file__).with_name("fixture")


def path(split: str) -> pathlib.Path:
    """The archive of a split."""
    return FOLDER / f"{split}.zip"


def read(split: str) -> Iterator[archive.Record]:
    """Yields the records of a split; a damaged archive is a `UserError`."""
    yield from archive.read(path(split))


def _build(spec: Spec, out: pathlib.Path, cache: pathlib.Path) -> int:
    folder = sets.generate(spec, cache)
    archive.write(out, sets.read(spec, folder))
    return out.stat().st_size


def main() -> None:
    """Renders the archives and replaces the existing ones."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with errors.exit_cleanly(), tempfile.TemporaryDirectory() as cache:
        FOLDER.mkdir(exist_ok=True)
        total = sum(
            _build(spec, path(split), pathlib.Path(cache))
            for split, spec in splits.specs("demo").items()
        )
    print(f"{FOLDER}: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
