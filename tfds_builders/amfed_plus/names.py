"""AM-FED+'s folders and file names, for the builder and the stand-in."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

ROOT = "AMFEDPLUS_Distribution"
VIDEOS = "Videos - FLV (labeled)"
LABELS = "AU Labels"
LANDMARKS = "Landmark Points (labeled videos)"
BASELINE = "Baseline Classification"
UNLABELED = "Videos - FLV (unlabeled)"  # inferred from the name of `VIDEOS`

ALL_VIDEOS = 1_044
LABELED_VIDEOS = 545  # the abstract of McDuff, Amr and el Kaliouby (2019)

ENDINGS: dict[str, tuple[str, ...]] = {VIDEOS: (".flv",), LABELS: (".csv",), LANDMARKS: (".csv",)}

_FILES: dict[str, re.Pattern[str]] = {
    VIDEOS: re.compile(r"(.+)\.flv", re.IGNORECASE),
    LABELS: re.compile(r"(.+)-label\.csv", re.IGNORECASE),
    LANDMARKS: re.compile(r"(.+)\.csv", re.IGNORECASE),
}


def is_of(part: str, file: str) -> bool:
    """Whether a file belongs to one of `VIDEOS`, `LABELS` and `LANDMARKS`."""
    path = PurePosixPath(file)
    return path.parent.name.casefold() == part.casefold() and (
        _FILES[part].fullmatch(path.name) is not None
    )


def video_id(file: str) -> str:
    """The id of the video that a file belongs to."""
    name = PurePosixPath(file).name
    for pattern in (_FILES[LABELS], _FILES[VIDEOS], _FILES[LANDMARKS]):
        if match := pattern.fullmatch(name):
            return match[1].lower()
    return name.lower()
