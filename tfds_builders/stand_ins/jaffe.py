"""A stand-in for JAFFE: its tiffs with ten rendered women, and a jpeg beside a tiff.

Every file carries the mark of a stand-in. What the set looks like is in names.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tfds_builders import pictures
from tfds_builders.jaffe import names
from tfds_builders.stand_ins import faces as stand_in_faces

SEED = 1998_7
_FEWEST = 4  # people: two train, one validates, one tests
_EACH = 3  # pictures of most people's expressions
_MORE = {("FE", 0), ("FE", 1), ("HA", 2), ("SA", 3)}  # one more of these, so that all are 213
_LESS = {("DI", 4)}


def files(scale: float) -> list[tuple[str, str, int]]:
    """Person, code and number of each picture, in the order of the numbers of the set."""
    people = names.PEOPLE[: max(_FEWEST, round(len(names.PEOPLE) * scale))]
    return [
        (person, code, number)
        for place, person in enumerate(people)
        for code in names.CODES
        for number in range(1, 1 + _EACH + ((code, place) in _MORE) - ((code, place) in _LESS))
    ]


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    return len(files(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes jaffedbase/ below `out`, keeping what is there; yields 1 a picture."""
    every = files(scale)
    people = len({person for person, _, _ in every})
    emotions = tuple(names.CODES.values())
    pool = stand_in_faces.FacePool(SEED, people, emotions, names.SIDE // 2, fill=(0.7, 0.8))
    folder = out / "jaffedbase"
    for number, (person, code, nth) in enumerate(every, start=1):
        path = folder / f"{person}.{code}{nth}.{number}.tiff"
        if not path.exists():
            face = pool.face(names.PEOPLE.index(person), names.CODES[code])
            varied = stand_in_faces.vary(face, path.name, strength=0.4, mirror=False)
            _write_tiff(path, varied.image)
        yield 1
    first = next(folder.glob("*.1.tiff"))
    copy = pictures.encode_jpeg(pictures.decode(first.read_bytes()), 90)
    stand_in_faces.write_file(first.with_suffix(".jpg"), pictures.mark_stand_in(copy))
    stand_in_faces.write_file(folder / "README", b"stand-in\n")
    stand_in_faces.write_file(folder / ".DS_Store", b"\0\0\0\1Bud1")


def _write_tiff(path: Path, image: np.ndarray) -> None:
    """Gray and not compressed, as the set's."""
    large = cv2.resize(image, (names.SIDE, names.SIDE), interpolation=cv2.INTER_CUBIC)
    gray = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY)
    done, data = cv2.imencode(".tiff", gray, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    if not done:
        raise RuntimeError(f"OpenCV could not encode {path.name}")
    stand_in_faces.write_file(path, pictures.mark_stand_in(data.tobytes()))
