"""SFEW's naming: where a picture lies and what its name says, and how many there are.

Shared by the builder and the stand-in, so that both mean the same set. The aligned faces
of SFEW 2.0 (EmotiW 2015) only, not the frames that they are from.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath

from fer_jax import labels

FOLDERS: dict[str, str] = {
    "Angry": labels.ANGER,
    "Disgust": labels.DISGUST,
    "Fear": labels.FEAR,
    "Happy": labels.HAPPINESS,
    "Neutral": labels.NEUTRAL,
    "Sad": labels.SADNESS,
    "Surprise": labels.SURPRISE,
}
"""The set's own folders. The builder takes any word for these (Happiness, Sadness)."""

COUNTS: dict[str, dict[str, int]] = {
    "train": dict(zip(labels.SFEW, (178, 52, 78, 184, 144, 161, 94), strict=True)),
    "validation": dict(zip(labels.SFEW, (77, 23, 46, 72, 84, 73, 56), strict=True)),
}
"""Aligned faces of a whole copy: 891 and 431."""

FRAMES = {"train": 958, "validation": 436, "test": 372}
"""Frames of a whole copy, before faces were cut out; not all faces could be."""

ENDINGS = (".png", ".jpg", ".jpeg")
WIDTH, HEIGHT = 143, 181

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_SPLIT_FOLDER = re.compile(r"(train|val|test)(_aligned_faces)?(_new)?", re.IGNORECASE)
_MOVIE = re.compile(r"(.+?)_\d{9}(?!\d)")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a picture lies: its split, its class folder ("" without), and its name's stem."""

    split: str
    folder: str
    stem: str
    is_aligned: bool


def place(file: str) -> Place | None:
    """Where a picture lies in SFEW's tree; None for files outside it."""
    path = PurePosixPath(file)
    if path.suffix.lower() not in ENDINGS:
        return None
    matches = [_SPLIT_FOLDER.fullmatch(part) for part in path.parts[:-1]]
    last = max((at for at, match in enumerate(matches) if match), default=-1)
    match = matches[last] if last >= 0 else None
    if match is None:
        return None
    inner = path.parts[last + 1 : -1]
    return Place(
        split=_SPLITS[match[1].lower()],
        folder=inner[0] if inner else "",
        stem=path.stem,
        is_aligned=any(found is not None and bool(found[2]) for found in matches),
    )


def movie(stem: str) -> str:
    """The movie that Airheads_000519240_00000005 is from, in small letters; "" if not said."""
    match = _MOVIE.match(stem)
    return match[1].lower() if match else ""
