"""A stand-in for FER2013: its csv with rendered faces, its counts, its duplicates.

The csv cannot carry a mark: the folder's STAND_IN.txt says what it is. What the set looks
like is in names.py; the command is tfds_builders/stand_ins/write.py.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders.fer2013 import names
from tfds_builders.stand_ins import faces as stand_in_faces

SEED = 2013
_RENDERED = 64  # pixels, more than a picture's 48
_PEOPLE = 160
_LEAST = 3  # of each class and usage
_DUPLICATES = 40  # one picture of so many is one of Training again, as in the real set
_CONTEMPT = 25  # one neutral face of so many shows contempt: FER2013 has no such class, FER+ has


@dataclasses.dataclass(frozen=True)
class Row:
    """A row to write: its usage, its label and the emotion that the face shows."""

    usage: str
    label: str
    shown: str
    number: int


def rows(scale: float) -> list[Row]:
    """The rows in the order of the csv: by usage, the classes mixed."""
    found = []
    for usage, counts in names.COUNTS.items():
        every = [
            Row(usage, label, _shown(label, number), number)
            for label, count in zip(labels.FER2013, counts, strict=True)
            for number in range(max(_LEAST, round(count * scale)))
        ]
        order = np.random.default_rng([SEED, len(usage)]).permutation(len(every))
        found += [every[position] for position in order]
    return found


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    return len(rows(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes fer2013.csv below `out`, unless an earlier run finished it; yields 1 a picture."""
    yield from write_table(out / "fer2013.csv", scale)


def write_table(path: Path, scale: float) -> Iterator[int]:
    """Writes the csv to `path`; it is there whole or not at all."""
    every = rows(scale)
    if path.exists():
        yield len(every)
        return
    pool = stand_in_faces.FacePool(
        SEED, max(3, round(_PEOPLE * scale)), labels.EMOTIONS, _RENDERED, wild=0.6, fill=(0.8, 0.9)
    )
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", encoding="ascii", newline="") as file:
        file.write(",".join(names.COLUMNS) + "\n")
        for row in every:
            code = labels.FER2013.index(row.label)
            values = " ".join(map(str, picture(pool, row).ravel()))
            file.write(f"{code},{values},{row.usage}\n")
            yield 1
    os.replace(partial, path)


def picture(pool: stand_in_faces.FacePool, row: Row) -> np.ndarray:
    """uint8[48, 48], gray; some of the tests' are pictures of Training."""
    again = row.usage != "Training" and row.number % _DUPLICATES == 0
    usage = "Training" if again else row.usage
    face = stand_in_faces.vary(
        pool.face(row.number, row.shown), f"{usage} {row.label} {row.number}"
    )
    gray = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, (names.SIDE, names.SIDE), interpolation=cv2.INTER_AREA)


def _shown(label: str, number: int) -> str:
    return labels.CONTEMPT if label == labels.NEUTRAL and number % _CONTEMPT == 0 else label
