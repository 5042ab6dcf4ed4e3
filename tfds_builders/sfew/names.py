"""Parses the paths of SFEW 2.0's aligned faces (EmotiW 2015), and gives their numbers.

Shared by the builder and the stand-in.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath

from fer_jax import labels
from tfds_builders import splits

FOLDERS: dict[str, str] = {
    "Angry": labels.ANGER,
    "Disgust": labels.DISGUST,
    "Fear": labels.FEAR,
    "Happy": labels.HAPPINESS,
    "Neutral": labels.NEUTRAL,
    "Sad": labels.SADNESS,
    "Surprise": labels.SURPRISE,
}
"""The set's class folders. The builder accepts synonyms too (Happiness, Sadness)."""

COUNTS: dict[str, dict[str, int]] = {
    "train": dict(zip(labels.SFEW, (178, 52, 78, 184, 144, 161, 94), strict=True)),
    "validation": dict(zip(labels.SFEW, (77, 23, 46, 72, 84, 73, 56), strict=True)),
}
"""Aligned faces by class of a complete copy: 891 and 431."""

FRAMES = {"train": 958, "validation": 436, "test": 372}
"""Movie frames of a complete copy; some have no aligned face."""

ENDINGS = (".png", ".jpg", ".jpeg")
WIDTH, HEIGHT = 143, 181

_MOVIE = re.compile(r"(.+?)_\d{9}(?!\d)")


@dataclasses.dataclass(frozen=True)
class Location:
    """The location of an image: split, class folder ("" if none) and stem of the file name."""

    split: str
    folder: str
    stem: str
    is_aligned: bool


def parse(file: str) -> Location | None:
    """The location of an image in SFEW's tree; None for other files."""
    path = PurePosixPath(file)
    if path.suffix.lower() not in ENDINGS:
        return None
    folders = path.parts[:-1]
    split_of = splits.by_folder(folders)
    last = max((at for at, folder in enumerate(folders) if folder in split_of), default=-1)
    if last < 0:
        return None
    inner = path.parts[last + 1 : -1]
    return Location(
        split=split_of[folders[last]],
        folder=inner[0] if inner else "",
        stem=path.stem,
        is_aligned=any("aligned" in folder.lower() for folder in split_of),
    )


def movie(stem: str) -> str:
    """The movie in a stem such as Airheads_000519240_00000005, in lower case; "" if none."""
    match = _MOVIE.match(stem)
    return match[1].lower() if match else ""
