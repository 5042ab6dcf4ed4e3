"""Parses RAF-DB's file names, label lists and attribute files.

Shared by the builder and the stand-in. The basic and the compound part, whose labels are pairs of
emotions, have files of the same names.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath

import numpy as np

from fer_jax import labels

SPLITS = ("train", "test")

COUNTS: dict[str, dict[str, int]] = {
    "train": dict(zip(labels.RAF_DB, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
    "test": dict(zip(labels.RAF_DB, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
}
"""Images by class of a complete copy of the basic part: 12,271 and 3,068."""

COMPOUND_IMAGES = 3_954
"""Images of a complete copy of the compound part: 3,162 and 792."""

LABEL_LIST = "list_patition_label.txt"  # sic
GENDERS = ("male", "female", "unsure")
RACES = ("Caucasian", "African-American", "Asian")
AGES = ("0-3", "4-19", "20-39", "40-69", "70+")
UNKNOWN = "unknown"
ENDINGS = (".jpg", ".jpeg", ".png")

_LABEL_LIST = re.compile(r"list_par?tition_label\.txt", re.IGNORECASE)
_IMAGE = re.compile(r"(train|test)_(\d+)(_aligned)?\.(jpe?g|png)", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"((?:train|test)_\d+)_manu_attri\.txt", re.IGNORECASE)
_POINTS = 5


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the set's two parts.

    Attributes:
      name: of its folder, which copies of the basic part may lack.
      labels: its classes, in the order of the codes 1, 2 and so on in its label list.
    """

    name: str
    labels: tuple[str, ...]

    @property
    def codes(self) -> dict[int, str]:
        """The codes of the label list."""
        return dict(enumerate(self.labels, start=1))

    def has(self, path: PurePosixPath) -> bool:
        """Whether a file is in this part, by its folders."""
        folders = [folder.lower() for folder in path.parts[:-1]]
        return (COMPOUND.name in folders) == (self == COMPOUND)


BASIC = Part("basic", labels.RAF_DB)
COMPOUND = Part("compound", labels.RAF_DB_COMPOUND)


@dataclasses.dataclass(frozen=True, eq=False)
class Attributes:
    """The content of a `_manu_attri.txt`.

    Attributes:
      landmarks: float32[5, 2] in pixels of the original image: eyes, nose tip, mouth
        corners, image left first; None if unknown.
      gender: one of `GENDERS`, or `UNKNOWN`.
      race: one of `RACES`, or `UNKNOWN`.
      age: one of `AGES`, or `UNKNOWN`.
    """

    landmarks: np.ndarray | None = None
    gender: str = UNKNOWN
    race: str = UNKNOWN
    age: str = UNKNOWN


def is_label_list(file: str, part: Part) -> bool:
    """Whether a file is the label list of a part, in either spelling."""
    path = PurePosixPath(file)
    return _LABEL_LIST.fullmatch(path.name) is not None and part.has(path)


def parse(file: str, part: Part) -> tuple[str, bool] | None:
    """Id (train_00001) of an image of a part, and whether it is aligned; None for other files."""
    path = PurePosixPath(file)
    match = _IMAGE.fullmatch(path.name)
    if match is None or not part.has(path):
        return None
    # In some copies only the folder distinguishes aligned images.
    is_aligned = bool(match[3]) or path.parent.name.lower() == "aligned"
    return f"{match[1].lower()}_{match[2]}", is_aligned


def attributes_of(file: str, part: Part) -> str | None:
    """Id of the image of a part that an attribute file describes; None for other files."""
    path = PurePosixPath(file)
    match = _ATTRIBUTES.fullmatch(path.name)
    return match[1].lower() if match and part.has(path) else None


def parse_line(line: str, part: Part) -> tuple[str, str] | None:
    """Id and class of a line such as "train_00001.jpg 5"; None if invalid."""
    words = line.split()
    if len(words) != 2 or not words[1].isdecimal() or int(words[1]) not in part.codes:
        return None
    match = _IMAGE.fullmatch(words[0])
    return (f"{match[1].lower()}_{match[2]}", part.codes[int(words[1])]) if match else None


def parse_attributes(text: str) -> Attributes | None:
    """Parses five lines "x<TAB>y", then gender, race and age as codes; None if invalid."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    points, values = rows[:_POINTS], rows[_POINTS:]
    try:
        landmarks = np.array([[float(x), float(y)] for x, y in points], np.float32)
        gender, race, age = (int(value) for (value,) in values)
    except ValueError:
        return None
    if len(landmarks) != _POINTS or not np.isfinite(landmarks).all():
        return None
    return Attributes(landmarks, _name(GENDERS, gender), _name(RACES, race), _name(AGES, age))


def _name(names: tuple[str, ...], code: int) -> str:
    return names[code] if 0 <= code < len(names) else UNKNOWN
