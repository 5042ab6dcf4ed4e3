"""KDEF's file names: how to parse them, and the errors of known copies.

The builder and the stand-in share this file, so that both use the same names.
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
"""View to yaw in degrees, and the face box that fits KDEF's uniform framing."""

MISNAMED: dict[str, str] = {"AF31V": "AF31SAHL", "AM31H": "AM31SUHR"}
"""Two wrong names in the older copy, and the right ones; newer copies are correct."""

BLACK: tuple[str, ...] = (
    "AF11NEHL", "AF20DIHL", "BF13NEHR", "BM22DIHL", "AF01SUFR",
    "AF10AFFR", "AM25DIFL", "AM34DIFR", "BM21DIFL", "BM24DIFL",
)  # fmt: skip
"""Images reported as black. The builder checks pixels instead; the stand-in blackens these."""

_NAME = re.compile(r"([AB])([FM])(\d\d)(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)")
_SESSION_FOLDER = re.compile(r"[AB][FM]\d\d", re.IGNORECASE)
_IMAGE = re.compile(r".*\.(jpe?g|png|bmp|tiff?)", re.IGNORECASE)
_WITH_SUFFIX = re.compile(rf"({_NAME.pattern})[^A-Z0-9].*")
_AVERAGES = "AKDEF"  # averages over all people, who are in every split


def image_id(file: str) -> str:
    """The stem of a file name in upper case, with `MISNAMED` corrected.

    Without what copies append, as in AF01AFS_crop.png.
    """
    stem = PurePosixPath(file).stem.upper()
    match = _WITH_SUFFIX.fullmatch(stem)
    return match[1] if match else MISNAMED.get(stem, stem)


def parse(name: str) -> re.Match[str] | None:
    """Matches session, gender, number, expression and view of an image id; None if invalid."""
    return _NAME.fullmatch(name)


def is_image(file: str) -> bool:
    """Whether a file is an image of KDEF, by its name or by its folder."""
    path = PurePosixPath(file)
    if not _IMAGE.fullmatch(path.name) or path.name.startswith("._"):  # macOS's shadow files
        return False
    folders = [part.upper() for part in path.parts[:-1]]
    if _AVERAGES in folders:
        return False
    in_session = bool(folders) and _SESSION_FOLDER.fullmatch(folders[-1]) is not None
    return in_session or parse(image_id(file)) is not None
