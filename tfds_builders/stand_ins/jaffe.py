"""Stand-in for JAFFE: gray TIFFs of ten rendered people, and a duplicate JPEG.

`tfds_builders/jaffe/names.py` describes the set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_jax.faces.decode import decode
from tfds_builders.encode import encode_jpeg
from tfds_builders.jaffe import names
from tfds_builders.stand_in_mark import mark_stand_in
from tfds_builders.stand_ins import faces

SEED = 1998_7
_MIN_PEOPLE = 4  # two for training, one for validation, one for the test
_EACH = 3  # images per person and expression, except:
_FOUR = {("FE", 0), ("FE", 1), ("HA", 2), ("SA", 3)}  # which give a total of 213
_TWO = {("DI", 4)}


def files(scale: float) -> list[tuple[str, str, int]]:
    """Returns (person, expression code, number) of each image, in the order of the set."""
    people = names.PEOPLE[: max(_MIN_PEOPLE, round(len(names.PEOPLE) * scale))]
    return [
        (person, code, number)
        for place, person in enumerate(people)
        for code in names.CODES
        for number in range(1, 1 + _EACH + ((code, place) in _FOUR) - ((code, place) in _TWO))
    ]


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return len(files(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes jaffedbase/ below `out`; skips existing images. Yields 1 per image."""
    all_files = files(scale)
    people = len({person for person, _, _ in all_files})
    emotions = tuple(names.CODES.values())
    pool = faces.FacePool(SEED, people, emotions, names.SIDE // 2, fill=(0.7, 0.8))
    folder = out / "jaffedbase"
    for number, (person, code, nth) in enumerate(all_files, start=1):
        path = folder / f"{person}.{code}{nth}.{number}.tiff"
        if not path.exists():
            face = pool.face(names.PEOPLE.index(person), names.CODES[code])
            varied = faces.vary(face, path.name, strength=0.4, mirror=False)
            _write_tiff(path, varied.image)
        yield 1
    first = next(folder.glob("*.1.tiff"))
    copy = encode_jpeg(decode(first.read_bytes()), 90)
    faces.write_file(first.with_suffix(".jpg"), mark_stand_in(copy))
    faces.write_file(folder / "README", b"stand-in\n")
    faces.write_file(folder / ".DS_Store", b"\0\0\0\1Bud1")


def _write_tiff(path: Path, image: np.ndarray) -> None:
    """Writes a gray, uncompressed TIFF, as in the set."""
    large = cv2.resize(image, (names.SIDE, names.SIDE), interpolation=cv2.INTER_CUBIC)
    gray = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY)
    _, data = cv2.imencode(".tiff", gray, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    faces.write_file(path, mark_stand_in(data.tobytes()))
