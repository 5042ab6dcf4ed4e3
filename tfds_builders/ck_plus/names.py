"""CK+'s naming: sequences with emotion files, and the flat copy of 48 pixels.

Shared by the builder and the stand-in, so that both mean the same set.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from fer_jax import labels

SEQUENCES = 593
LABELLED = 327
PEAKS = 3  # the field's custom: the last three frames of a sequence count as the expression
COUNTS: dict[str, int] = {
    labels.ANGER: 45,
    labels.CONTEMPT: 18,
    labels.DISGUST: 59,
    labels.FEAR: 25,
    labels.HAPPINESS: 69,
    labels.SADNESS: 28,
    labels.SURPRISE: 83,
}
"""Labelled sequences by class; three frames of each are the 981 of the 48-pixel copy."""

SMALL_FOLDERS: dict[str, str] = {
    "anger": labels.ANGER,
    "contempt": labels.CONTEMPT,
    "disgust": labels.DISGUST,
    "fear": labels.FEAR,
    "happy": labels.HAPPINESS,
    "sadness": labels.SADNESS,
    "surprise": labels.SURPRISE,
}
"""The class folders of the 48-pixel copy."""

_FRAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})", re.IGNORECASE)
_EMOTION = re.compile(r"(S\d{3})_(\d{3})_(\d{8})_emotion\.txt", re.IGNORECASE)
_ENDING = re.compile(r"\.(png|jpe?g|tiff?)", re.IGNORECASE)
_SEQUENCE = re.compile(r"\d{3}")


@dataclasses.dataclass(frozen=True, order=True)
class Frame:
    """One picture of a sequence: its subject (S005), sequence (001) and number in it."""

    subject: str
    sequence: str
    number: int

    @property
    def key(self) -> tuple[str, str]:
        """What tells sequences apart."""
        return self.subject, self.sequence

    @property
    def id(self) -> str:
        """As in the file's name."""
        return f"{self.subject}_{self.sequence}_{self.number:08d}"


def parse_frame(file: str) -> Frame | None:
    """What a picture's name says, None for other files; macOS's `._` files do not match."""
    path = PurePosixPath(file)
    match = _FRAME.fullmatch(path.stem)
    if not match or not _ENDING.fullmatch(path.suffix):
        return None
    return Frame(match[1].upper(), match[2], int(match[3]))


def parse_emotion_file(file: str) -> tuple[str, str] | None:
    """Subject and sequence of an emotion file, None for other files."""
    match = _EMOTION.fullmatch(PurePosixPath(file).name)
    return (match[1].upper(), match[2]) if match else None


def parse_code(text: str) -> str | None:
    """The emotion of an emotion file's text, such as "   3.0000000e+00"."""
    try:
        code = float(text)
    except ValueError:
        return None
    return labels.CK_PLUS[int(code)] if code in range(len(labels.CK_PLUS)) else None


def is_small(file: str) -> bool:
    """Whether a picture is of the 48-pixel copy: its folder is a class, not a sequence."""
    folder = PurePosixPath(file).parent.name
    return not _SEQUENCE.fullmatch(folder)


def peak_frames(frames: Iterable[Frame]) -> tuple[Frame | None, list[Frame]]:
    """The first frame, which is neutral by the set's design, and the last three.

    A sequence runs from a neutral face to the peak of the expression; in one of fewer
    than four frames the first is not taken for a peak, and alone it is one.
    """
    ordered = sorted(frames)
    if len(ordered) == 1:
        return None, ordered
    return ordered[0], ordered[1:][-PEAKS:]
