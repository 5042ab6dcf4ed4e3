"""RAF-DB's naming: its pictures, label list and attribute files, and how many there are.

Shared by the builder and the stand-in, so that both mean the same set. The basic
(single-label) part only.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath

import numpy as np

from fer_jax import labels

SPLITS = ("train", "test")

CODES: dict[int, str] = dict(enumerate(labels.RAF_DB, start=1))
"""The label list's numbers."""

COUNTS: dict[str, dict[str, int]] = {
    "train": dict(zip(labels.RAF_DB, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
    "test": dict(zip(labels.RAF_DB, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
}
"""Pictures of a whole copy: 12,271 and 3,068."""

LABEL_LIST = "list_patition_label.txt"  # sic
GENDERS = ("male", "female", "unsure")
RACES = ("Caucasian", "African-American", "Asian")
AGES = ("0-3", "4-19", "20-39", "40-69", "70+")
UNKNOWN = "unknown"
ENDINGS = (".jpg", ".jpeg", ".png")

_LABEL_LIST = re.compile(r"list_par?tition_label\.txt", re.IGNORECASE)
_PICTURE = re.compile(r"(train|test)_(\d+)(_aligned)?\.(jpe?g|png)", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"((?:train|test)_\d+)_manu_attri\.txt", re.IGNORECASE)
_COMPOUND = "compound"  # the two-emotion part has a label list of the same name
_POINTS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Attributes:
    """What a `_manu_attri.txt` says.

    Attributes:
      landmarks: float32[5, 2], pixels of the original picture: eyes, tip of the nose,
        corners of the mouth, picture left first; None where unknown.
      gender, race, age: One of the names above, or `UNKNOWN`.
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


def picture(file: str) -> tuple[str, bool] | None:
    """Id (train_00001) of a picture, and whether it is an aligned one; None for other files."""
    path = PurePosixPath(file)
    match = _PICTURE.fullmatch(path.name)
    folders = [part.lower() for part in path.parts[:-1]]
    if match is None or _COMPOUND in folders:
        return None
    # Some copies lack the suffix; the folder says it as well.
    is_aligned = bool(match[3]) or folders[-1:] == ["aligned"]
    return f"{match[1].lower()}_{match[2]}", is_aligned


def attributes_of(file: str) -> str | None:
    """Id of the picture that a file has the attributes of; None for other files."""
    match = _ATTRIBUTES.fullmatch(PurePosixPath(file).name)
    return match[1].lower() if match else None


def parse_line(line: str) -> tuple[str, str] | None:
    """Id and emotion of a line such as "train_00001.jpg 5"; None if it is no such line."""
    words = line.split()
    if len(words) != 2 or not words[1].isdecimal() or int(words[1]) not in CODES:
        return None
    found = picture(words[0])
    return (found[0], CODES[int(words[1])]) if found else None


def parse_attributes(text: str) -> Attributes | None:
    """Five lines "x<TAB>y", then gender, race and age as numbers; None if it is anything else."""
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
