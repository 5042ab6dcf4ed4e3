"""Stand-in for FER2013: its CSV with rendered faces, its class counts and duplicates.

A CSV cannot carry a mark; STAND_IN.txt in the folder marks it.
`tfds_builders/fer2013/names.py` describes the set.
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
from tfds_builders.stand_ins import faces

SEED = 2013
_RENDERED = 64  # pixels, more than the 48 of an image
_PEOPLE = 160
_MIN_PER_CLASS = 3  # in each usage
_DUPLICATES = 40  # every n-th test image duplicates one of Training, as in the real set
_CONTEMPT = 25  # every n-th neutral face shows contempt, a class of FER+ but not of FER2013


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the CSV.

    Attributes:
      usage: the split, one of `names.USAGES`.
      label: the emotion of the label.
      shown: the emotion of the face.
      number: index within usage and label.
    """

    usage: str
    label: str
    shown: str
    number: int


def rows(scale: float) -> list[Row]:
    """Returns the rows in the order of the CSV: by usage, with mixed classes."""
    ordered = []
    for usage, counts in names.COUNTS.items():
        usage_rows = [
            Row(usage, label, _shown(label, number), number)
            for label, count in zip(labels.FER2013, counts, strict=True)
            for number in range(max(_MIN_PER_CLASS, round(count * scale)))
        ]
        order = np.random.default_rng([SEED, len(usage)]).permutation(len(usage_rows))
        ordered += [usage_rows[position] for position in order]
    return ordered


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return len(rows(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes fer2013.csv below `out` if it does not exist. Yields image counts."""
    yield from write_table(out / "fer2013.csv", scale)


def write_table(path: Path, scale: float) -> Iterator[int]:
    """Writes the CSV to `path` atomically if it does not exist. Yields image counts."""
    all_rows = rows(scale)
    if path.exists():
        yield len(all_rows)
        return
    pool = faces.FacePool(
        SEED, max(3, round(_PEOPLE * scale)), labels.EMOTIONS, _RENDERED, wild=0.6, fill=(0.8, 0.9)
    )
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", encoding="ascii", newline="") as file:
        file.write(",".join(names.COLUMNS) + "\n")
        for row in all_rows:
            code = labels.FER2013.index(row.label)
            values = " ".join(map(str, _image(pool, row).ravel()))
            file.write(f"{code},{values},{row.usage}\n")
            yield 1
    os.replace(partial, path)


def _image(pool: faces.FacePool, row: Row) -> np.ndarray:
    """The gray image of a row, uint8[48, 48]."""
    is_duplicate = row.usage != "Training" and row.number % _DUPLICATES == 0
    usage = "Training" if is_duplicate else row.usage
    face = faces.vary(pool.face(row.number, row.shown), f"{usage} {row.label} {row.number}")
    gray = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, (names.SIDE, names.SIDE), interpolation=cv2.INTER_AREA)


def _shown(label: str, number: int) -> str:
    return labels.CONTEMPT if label == labels.NEUTRAL and number % _CONTEMPT == 0 else label
