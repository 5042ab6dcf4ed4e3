"""JAFFE's naming: KA.AN1.39.tiff is the woman KA, anger, her first, number 39 of the set.

Shared by the builder and the stand-in, so that both mean the same set.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from fer_jax import labels

SIDE = 256  # pixels
PEOPLE = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
CODES: dict[str, str] = {
    "AN": labels.ANGER,
    "DI": labels.DISGUST,
    "FE": labels.FEAR,
    "HA": labels.HAPPINESS,
    "NE": labels.NEUTRAL,
    "SA": labels.SADNESS,
    "SU": labels.SURPRISE,
}
PICTURES = 213

_NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d)\.(\d{1,3})", re.IGNORECASE)
_ENDINGS_BY_WORTH = (".tiff", ".tif", ".png", ".bmp", ".jpg", ".jpeg")


def picture_id(file: str) -> str | None:
    """A picture's name in capitals without its ending; None for what is no picture."""
    name = PurePosixPath(file).name
    match = re.match(r"(.*?)(\.(?:tiff?|jpe?g|png|bmp))+$", name, re.IGNORECASE)
    if match is None or name.startswith("._"):
        return None
    return match[1].upper()


def parse(one: str) -> tuple[str, str] | None:
    """Person and emotion of a picture's id; None if it is not JAFFE's."""
    match = _NAME.fullmatch(one)
    if match is None or match[2] not in CODES:
        return None
    return match[1], CODES[match[2]]


def worth(file: str) -> int:
    """Less is better: of a tiff and a jpeg of one picture, the tiff is the original."""
    return _ENDINGS_BY_WORTH.index(PurePosixPath(file).suffix.lower())
