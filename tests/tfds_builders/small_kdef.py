"""Six people of KDEF in its directory layout: tiny drawn images, with the errors of real copies."""

from __future__ import annotations

import pathlib
import zipfile

import numpy as np

from tfds_builders.encode import encode_jpeg
from tfds_builders.kdef import names

PEOPLE = ("F01", "F11", "F31", "M22", "M25", "M31")
BLACK = ("AF01SUFR", "AF11NEHL", "AM25DIFL", "BM22DIHL")  # of names.BLACK, these people's
IMAGES = 6 * 2 * 7 * 5


def draw(image_id: str, side: int = 48) -> bytes:
    """A JPEG without a face, different for every id."""
    rng = np.random.default_rng(list(image_id.encode()))
    value = 0 if image_id in BLACK else rng.integers(40, 220, (4, 3, 3))
    coarse = np.broadcast_to(np.asarray(value, np.uint8), (4, 3, 3))
    return encode_jpeg(np.kron(coarse, np.ones((side // 3, side // 3, 1), np.uint8)), 90)


def write_tree(root: pathlib.Path) -> None:
    wrong = {right: wrong for wrong, right in names.MISNAMED.items()}
    for session in names.SESSIONS:
        for person in PEOPLE:
            folder = root / "KDEF_and_AKDEF" / "KDEF" / f"{session}{person}"
            folder.mkdir(parents=True)
            for expression in names.EXPRESSIONS:
                for view in names.VIEWS:
                    one = folder.name + expression + view
                    (folder / f"{wrong.get(one, one)}.JPG").write_bytes(draw(one))
    averages = root / "KDEF_and_AKDEF" / "AKDEF"
    averages.mkdir()
    (averages / "AFAFS.JPG").write_bytes(draw("AFAFS"))
    (root / "KDEF_and_AKDEF" / "KDEF" / "Thumbs.db").write_bytes(b"not an image")


def pack(tree: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    assert not target.is_relative_to(tree), "the archive would contain itself"
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(one for one in tree.rglob("*") if one.is_file()):
            archive.write(file, file.relative_to(tree))
    return target
