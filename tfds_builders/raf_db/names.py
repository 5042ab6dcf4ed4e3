"""Parses RAF-DB's file names, label list and attribute files (basic, single-label part).

Shared by the builder and the stand-in.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath

import numpy as np

from fer_jax import labels

SPLITS = ("train", "test")

CODES: dict[int, str] = dict(enumerate(labels.RAF_DB, start=1))
"""The codes of the label list."""

COUNTS: dict[str, dict[str, int]] = {
    "train": dict(zip(labels.RAF_DB, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
    "test": dict(zip(labels.RAF_DB, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
}
"""Images by class of a complete copy: 12,271 and 3,068."""

LABEL_LIST = "list_patition_label.txt"  # sic
GENDERS = ("male", "female", "unsure")
RACES = ("Caucasian", "African-American", "Asian")
AGES = ("0-3", "4-19", "20-39", "40-69", "70+")
UNKNOWN = "unknown"
ENDINGS = (".jpg", ".jpeg", ".png")

_LABEL_LIST = re.compile(r"list_par?tition_label\.txt", re.IGNORECASE)
_IMAGE = re.compile(r"(train|test)_(\d+)(_aligned)?\.(jpe?g|png)", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"((?:train|test)_\d+)_manu_attri\.txt", re.IGNORECASE)
_COMPOUND = "compound"  # the two-emotion part has a label list of the same name
_POINTS = 5


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


def is_label_list(file: str) -> bool:
    """Whether a file is the basic part's label list, in either spelling."""
    path = PurePosixPath(file)
    folders = [part.lower() for part in path.parts[:-1]]
    return _LABEL_LIST.fullmatch(path.name) is not None and _COMPOUND not in folders


def parse(file: str) -> tuple[str, bool] | None:
    """Id (train_00001) of an image, and whether it is aligned; None for other files."""
    path = PurePosixPath(file)
    match = _IMAGE.fullmatch(path.name)
    folders = [part.lower() for part in path.parts[:-1]]
    if match is None or _COMPOUND in folders:
        return None
    # In some copies only the folder distinguishes aligned images.
    is_aligned = bool(match[3]) or folders[-1:] == ["aligned"]
    return f"{match[1].lower()}_{match[2]}", is_aligned


def attributes_of(file: str) -> str | None:
    """Id of the image that an attribute file describes; None for other files."""
    match = _ATTRIBUTES.fullmatch(PurePosixPath(file).name)
    return match[1].lower() if match else None


def parse_line(line: str) -> tuple[str, str] | None:
    """Id and emotion of a line such as "train_00001.jpg 5"; None if invalid."""
    words = line.split()
    if len(words) != 2 or not words[1].isdecimal() or int(words[1]) not in CODES:
        return None
    parsed = parse(words[0])
    return (parsed[0], CODES[int(words[1])]) if parsed else None


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
