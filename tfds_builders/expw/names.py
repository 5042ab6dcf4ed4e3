"""Parses ExpW's label list, which has one line per face, for the builder and the stand-in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import PurePosixPath

from fer_jax import errors, labels
from tfds_builders import sources, tables

LIST = "label.lst"
FACES = 91_793
COUNTS: tuple[int, ...] = (3_671, 3_995, 1_088, 30_537, 10_559, 7_060, 34_883)
"""Faces per class of a complete copy, in the order of `labels.EXPW` (Zhang et al., 2018)."""

_WORDS = 8  # name, face id, top, left, right, bottom, confidence, label


@dataclasses.dataclass(frozen=True)
class Line:
    """One face of the list.

    Attributes:
      photo: file name of the photograph.
      face: number of the face in the photograph.
      box: x, y, width, height in pixels; a wrong line may have sides of 0 or less.
      confidence: of the detector that found the face.
      label: one of `labels.EXPW`.
    """

    photo: str
    face: str
    box: tuple[int, int, int, int]
    confidence: float
    label: str

    @property
    def id(self) -> str:
        """Photograph and face number."""
        return f"{PurePosixPath(self.photo).stem}_{self.face}"


def read(source: sources.Source, table: str) -> Iterator[Line]:
    """Yields the lines of the list; an invalid line is a `UserError`."""
    for number, words in tables.words(source, table, _WORDS):
        try:
            yield _parse(words)
        except (ValueError, KeyError) as error:
            raise errors.UserError(
                f"expected file name, face number, top, left, right, bottom, confidence and a "
                f"label from 0 to 6 in line {number} of {table} in {source.path}, found "
                f"{' '.join(words)[:100]!r}. Use the file as its publisher sent it."
            ) from error


def _parse(words: list[str]) -> Line:
    photo, face, *numbers, code = words
    top, left, right, bottom, confidence = map(float, numbers)
    box = (round(left), round(top), round(right - left), round(bottom - top))
    return Line(photo, str(int(face)), box, confidence, _LABELS[code])


_LABELS = {str(code): label for code, label in enumerate(labels.EXPW)}
