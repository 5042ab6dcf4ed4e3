"""Parses CK+'s file names: sequences with emotion files, and the 48 x 48 copy CK+48.

Shared by the builder and the stand-in.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from fer_jax import labels

SEQUENCES = 593
LABELED = 327
PEAKS = 3  # customary: the last three frames of a sequence count as its expression
COUNTS: dict[str, int] = {
    labels.ANGER: 45,
    labels.CONTEMPT: 18,
    labels.DISGUST: 59,
    labels.FEAR: 25,
    labels.HAPPINESS: 69,
    labels.SADNESS: 28,
    labels.SURPRISE: 83,
}
"""Labeled sequences by class; CK+48 has three frames of each, 981 in all."""

SMALL_FOLDERS: dict[str, str] = {
    "anger": labels.ANGER,
    "contempt": labels.CONTEMPT,
    "disgust": labels.DISGUST,
    "fear": labels.FEAR,
    "happy": labels.HAPPINESS,
    "sadness": labels.SADNESS,
    "surprise": labels.SURPRISE,
}
"""The class folders of CK+48."""

EXTENDED = "ckextended.csv"  # emotion, pixels, Usage, as in fer2013.csv; people are not identified
EXTENDED_CODES: dict[str, str] = {
    str(code): label for code, label in enumerate((*labels.FER2013, labels.CONTEMPT))
}
"""The codes of ckextended.csv: FER2013's, and 7 for contempt."""

EXTENDED_IMAGES = 920

_FRAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})", re.IGNORECASE)
_EMOTION = re.compile(r"(S\d{3})_(\d{3})_(\d{8})_emotion\.txt", re.IGNORECASE)
_ENDING = re.compile(r"\.(png|jpe?g|tiff?)", re.IGNORECASE)
_SEQUENCE = re.compile(r"\d{3}")


@dataclasses.dataclass(frozen=True, order=True)
class Frame:
    """One image of a sequence: subject (S005), sequence (001) and frame number."""

    subject: str
    sequence: str
    number: int

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the sequence."""
        return self.subject, self.sequence

    @property
    def id(self) -> str:
        """The frame's file name without its ending."""
        return f"{self.subject}_{self.sequence}_{self.number:08d}"


def parse_frame(file: str) -> Frame | None:
    """The frame that a file is; None for other files, including macOS's `._` files."""
    path = PurePosixPath(file)
    match = _FRAME.fullmatch(path.stem)
    if not match or not _ENDING.fullmatch(path.suffix):
        return None
    return Frame(match[1].upper(), match[2], int(match[3]))


def parse_emotion_file(file: str) -> tuple[str, str] | None:
    """Subject and sequence of an emotion file; None for other files."""
    match = _EMOTION.fullmatch(PurePosixPath(file).name)
    return (match[1].upper(), match[2]) if match else None


def parse_code(text: str) -> str | None:
    """The emotion in the text of an emotion file, such as "   3.0000000e+00"; None if invalid."""
    try:
        code = float(text)
    except ValueError:
        return None
    return labels.CK_PLUS[int(code)] if code in range(len(labels.CK_PLUS)) else None


def is_small(file: str) -> bool:
    """Whether an image is of CK+48: its folder is a class, not a sequence."""
    folder = PurePosixPath(file).parent.name
    return not _SEQUENCE.fullmatch(folder)


def peak_frames(frames: Iterable[Frame]) -> tuple[Frame | None, list[Frame]]:
    """The first frame, which is neutral by design, and the last three, the peak.

    The first frame of a short sequence is not a peak. A single frame is a peak, without a
    neutral frame.
    """
    ordered = sorted(frames)
    if len(ordered) == 1:
        return None, ordered
    return ordered[0], ordered[1:][-PEAKS:]
