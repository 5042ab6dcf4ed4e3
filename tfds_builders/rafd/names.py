"""Parses RaFD's file names and gives the face box of each camera.

Shared by the builder and the stand-in.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from fer_jax import labels
from fer_jax.faces.crop import RelativeBox

EXPRESSIONS: dict[str, str] = {
    "angry": labels.ANGER,
    "contemptuous": labels.CONTEMPT,
    "disgusted": labels.DISGUST,
    "fearful": labels.FEAR,
    "happy": labels.HAPPINESS,
    "neutral": labels.NEUTRAL,
    "sad": labels.SADNESS,
    "surprised": labels.SURPRISE,
}
GAZES = ("frontal", "left", "right")
SEXES = ("female", "male")
KINDS = ("Caucasian", "Moroccan", "Kid")  # the third part of a file name

# Estimates of this project. They are wide, because heads are less aligned than KDEF's, and the same
# for both sides, because no known document says which side of the face 000 and 180 show.
_FRONTAL: RelativeBox = (0.19, 0.27, 0.62, 0.41)
_HALF: RelativeBox = (0.15, 0.26, 0.70, 0.44)
_PROFILE: RelativeBox = (0.10, 0.25, 0.80, 0.46)

VIEWS: dict[str, tuple[float, RelativeBox]] = {
    "000": (-90.0, _PROFILE),
    "045": (-45.0, _HALF),
    "090": (0.0, _FRONTAL),
    "135": (45.0, _HALF),
    "180": (90.0, _PROFILE),
}
"""Camera to its yaw from the frontal camera (090) in degrees, and its face box."""

NUMBERS: tuple[int, ...] = tuple(
    number for number in range(1, 74) if number not in (6, 13, 17, 34, 62, 66)
)
"""The published numbers of the 67 models; the stand-in has these, the builder accepts any."""

ENDINGS = (".jpg", ".jpeg", ".png")

# Users add prefixes (s_, 1_, aligned), so the name may start anywhere in the stem.
_NAME = re.compile(r".*rafd(\d{3})_(\d\d)_([a-z]+)_([a-z]+)_([a-z]+)_([a-z]+)", re.IGNORECASE)
_SIMILAR = re.compile(r".*rafd\d", re.IGNORECASE)


def is_image(file: str) -> bool:
    """Whether a file is named like an image of RaFD; `parse` may still reject the name."""
    path = PurePosixPath(file)
    return path.suffix.lower() in ENDINGS and _SIMILAR.match(path.stem) is not None


def parse(file: str) -> tuple[str, str, str, str, str, str] | None:
    """Camera, number, kind, sex, expression and gaze in RaFD's spelling; None if invalid."""
    match = _NAME.fullmatch(PurePosixPath(file).stem)
    if match is None:
        return None
    view, number, kind, sex, expression, gaze = match.groups()
    kind, sex, expression, gaze = kind.capitalize(), sex.lower(), expression.lower(), gaze.lower()
    known = (
        view in VIEWS
        and kind in KINDS
        and sex in SEXES
        and expression in EXPRESSIONS
        and gaze in GAZES
    )
    return (view, number, kind, sex, expression, gaze) if known else None


def image_id(file: str) -> str:
    """The original name of an image, without prefixes and in RaFD's spelling."""
    parts = parse(file)
    assert parts is not None  # `index` has refused other names
    return "Rafd" + "_".join(parts)


def priority(file: str) -> int:
    """Sort key of files of one image, best first: a JPEG is the original, a PNG a conversion."""
    return int(file.lower().endswith(".png"))
