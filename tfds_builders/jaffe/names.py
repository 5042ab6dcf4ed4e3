"""Parses JAFFE's file names, for the builder and the stand-in.

KA.AN1.39.tiff is the person KA, her first image of anger, and number 39 of the set.
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
IMAGES = 213

_NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d)\.(\d{1,3})", re.IGNORECASE)
_PREFERRED_ENDINGS = (".tiff", ".tif", ".png", ".bmp", ".jpg", ".jpeg")


def image_id(file: str) -> str | None:
    """The name of an image in upper case, without its ending; None for other files."""
    name = PurePosixPath(file).name
    match = re.match(r"(.*?)(\.(?:tiff?|jpe?g|png|bmp))+$", name, re.IGNORECASE)
    if match is None or name.startswith("._"):
        return None
    return match[1].upper()


def parse(image_id: str) -> tuple[str, str] | None:
    """Person and emotion of an image id; None if it is not JAFFE's."""
    match = _NAME.fullmatch(image_id)
    if match is None or match[2] not in CODES:
        return None
    return match[1], CODES[match[2]]


def priority(file: str) -> int:
    """Sort key of files of one image, best first: a TIFF is the original, a JPEG a conversion."""
    return _PREFERRED_ENDINGS.index(PurePosixPath(file).suffix.lower())
