"""KDEF's naming: what a file name says, and the oddities of the copies in use.

Shared by the builder and the stand-in, so that both mean the same set.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from fer_jax import labels
from fer_jax.faces.crop import RelativeBox

PEOPLE = 35  # of each gender
SESSIONS = ("A", "B")  # the same people on two days
GENDERS = ("F", "M")

EXPRESSIONS: dict[str, str] = {
    "AF": labels.FEAR,
    "AN": labels.ANGER,
    "DI": labels.DISGUST,
    "HA": labels.HAPPINESS,
    "NE": labels.NEUTRAL,
    "SA": labels.SADNESS,
    "SU": labels.SURPRISE,
}
VIEWS: dict[str, tuple[float, RelativeBox]] = {
    "FL": (-90.0, (0.0, 0.3, 0.7, 0.5)),
    "HL": (-45.0, (0.039, 0.337, 0.575, 0.424)),
    "S": (0.0, (0.135, 0.291, 0.726, 0.535)),
    "HR": (45.0, (0.363, 0.333, 0.594, 0.438)),
    "FR": (90.0, (0.3, 0.3, 0.7, 0.5)),
}
"""View to yaw in degrees and the box that fits KDEF's uniform framing."""

MISNAMED: dict[str, str] = {"AF31V": "AF31SAHL", "AM31H": "AM31SUHR"}
"""Two names of the older copy and what they are; newer copies have them right."""

BLACK: tuple[str, ...] = (
    "AF11NEHL", "AF20DIHL", "BF13NEHR", "BM22DIHL", "AF01SUFR",
    "AF10AFFR", "AM25DIFL", "AM34DIFR", "BM21DIFL", "BM24DIFL",
)  # fmt: skip
"""Pictures reported as black. The builder looks at pixels; the stand-in blackens these."""

_NAME = re.compile(r"([AB])([FM])(\d\d)(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)")
_SESSION_FOLDER = re.compile(r"[AB][FM]\d\d", re.IGNORECASE)
_PICTURE = re.compile(r".*\.jpe?g", re.IGNORECASE)
_AVERAGES = "AKDEF"  # averages over all people: theirs would be in every split


def picture_id(file: str) -> str:
    """A file's name without folder and ending, in capitals and put right."""
    stem = PurePosixPath(file).stem.upper()
    return MISNAMED.get(stem, stem)


def parse(one: str) -> re.Match[str] | None:
    """Session, gender, number, expression and view of a picture's id, or None."""
    return _NAME.fullmatch(one)


def is_picture(file: str) -> bool:
    """Whether a file is one of KDEF's pictures: by its name, or by the folder it is in."""
    path = PurePosixPath(file)
    if not _PICTURE.fullmatch(path.name) or path.name.startswith("._"):  # macOS's shadow files
        return False
    folders = [part.upper() for part in path.parts[:-1]]
    if _AVERAGES in folders:
        return False
    in_session = bool(folders) and _SESSION_FOLDER.fullmatch(folders[-1]) is not None
    return in_session or parse(picture_id(file)) is not None
