"""RaFD's naming: what a file name says, and where its cameras see the face.

Shared by the builder and the stand-in, so that both mean the same set.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from fer_jax import labels
from fer_jax.faces import detect as faces

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
KINDS = ("Caucasian", "Moroccan", "Kid")

# Which side of the face 000 and 180 show is not written down anywhere we know of, so the boxes
# are the same for both. They are ours, and wide, because heads are not in one place as KDEF's are.
_FRONTAL: faces.RelativeBox = (0.19, 0.27, 0.62, 0.41)
_HALF: faces.RelativeBox = (0.15, 0.26, 0.70, 0.44)
_PROFILE: faces.RelativeBox = (0.10, 0.25, 0.80, 0.46)

VIEWS: dict[str, tuple[float, faces.RelativeBox]] = {
    "000": (-90.0, _PROFILE),
    "045": (-45.0, _HALF),
    "090": (0.0, _FRONTAL),
    "135": (45.0, _HALF),
    "180": (90.0, _PROFILE),
}
"""Camera to its angle from the frontal one (090) in degrees, and the box that fits its view."""

NUMBERS: tuple[int, ...] = tuple(
    number for number in range(1, 74) if number not in (6, 13, 17, 34, 62, 66)
)
"""The 67 models' numbers as reported; the builder takes any, the stand-in has these."""

ENDINGS = (".jpg", ".jpeg", ".png")

# Users put things before the name (s_, 1_, aligned), so it may begin anywhere in the stem.
_NAME = re.compile(r".*rafd(\d{3})_(\d\d)_([a-z]+)_([a-z]+)_([a-z]+)_([a-z]+)", re.IGNORECASE)
_ALIKE = re.compile(r".*rafd\d", re.IGNORECASE)


def is_picture(file: str) -> bool:
    """Whether a file is one of RaFD's pictures by its name, or means to be one."""
    path = PurePosixPath(file)
    return path.suffix.lower() in ENDINGS and _ALIKE.match(path.stem) is not None


def parse(file: str) -> tuple[str, str, str, str, str, str] | None:
    """View, number, kind, sex, expression and gaze as RaFD writes them, or None."""
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


def picture_id(file: str) -> str:
    """The set's own name of a picture, whatever a copy puts before it or makes of its case."""
    parts = parse(file)
    assert parts is not None  # `index` lets no other name pass
    return "Rafd" + "_".join(parts)


def worth(file: str) -> int:
    """The JPEG before a PNG that was made of it."""
    return int(file.lower().endswith(".png"))
