"""FER2013's two forms: a csv with a row per picture, or a folder per class.

Says what rows and names mean, for the builders of FER2013 and FER+ and for the
stand-in. It decides nothing about faces or records.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

import numpy as np

from fer_jax import errors, labels
from tfds_builders import pictures, protocols, sources, tables

SIDE = 48  # pixels
COLUMNS = ("emotion", "pixels", "Usage")
USAGES: dict[str, str] = {
    "Training": protocols.TRAIN,
    "PublicTest": protocols.VALIDATION,
    "PrivateTest": protocols.TEST,
}
"""The csv's word for a split; PrivateTest is what the field reports."""

COUNTS: dict[str, tuple[int, ...]] = {
    "Training": (3_995, 436, 4_097, 7_215, 4_830, 3_171, 4_965),
    "PublicTest": (467, 56, 496, 895, 653, 415, 607),
    "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
}
"""Pictures of a whole copy by usage, in the order of `labels.FER2013`."""

TABLES = ("fer2013.csv", "icml_face_data.csv")  # the second: with blanks in its header
ARCHIVES = r".*(fer.?2013|icml|facial.?expression|archive).*\.(zip|tar|tgz|tar\.gz)"

_SPLITS = {"train": protocols.TRAIN, "validation": protocols.VALIDATION, "test": protocols.TEST}
_USAGE = re.compile(r"(training|publictest|privatetest)_", re.IGNORECASE)
_PICTURE = re.compile(r".*\.(jpe?g|png|bmp)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class CsvRow:
    """One picture of the csv.

    Attributes:
      id: Its usage and its number in the file, from 0.
      usage: One of `USAGES`.
      label: One of `labels.FER2013`.
      values: The 48 x 48 grey values; empty where the row has others.
    """

    id: str
    usage: str
    label: str
    values: bytes

    def pixels(self) -> np.ndarray:
        """uint8[48, 48, 3], RGB; `pictures.UnreadableError` where the row has no picture."""
        if len(self.values) != SIDE * SIDE:
            raise pictures.UnreadableError(f"not {SIDE * SIDE} values from 0 to 255")
        grey = np.frombuffer(self.values, np.uint8).reshape(SIDE, SIDE, 1)
        return np.repeat(grey, 3, axis=2)


def find_table(names: Iterable[str]) -> str | None:
    """The csv among files: the set's own before the challenge's."""
    by_name = {PurePosixPath(name).name.lower(): name for name in sorted(names, reverse=True)}
    return next((by_name[table] for table in TABLES if table in by_name), None)


def read_table(source: sources.Source, table: str) -> Iterator[CsvRow]:
    """The rows of the csv; `UserError` where one is not of FER2013."""
    for number, (line, values) in enumerate(tables.rows(source, table, COLUMNS)):
        emotion, pixels, usage = values
        if usage not in USAGES or emotion not in _CODES:
            raise errors.UserError(
                f"expected an emotion from 0 to 6 and a Usage of {', '.join(USAGES)} in line "
                f"{line} of {table} in {source.path}, found {emotion[:20]!r} and {usage[:20]!r}. "
                "Use the file as its publisher sent it."
            )
        yield CsvRow(f"{usage}_{number:05d}", usage, _CODES[emotion], _parse_values(pixels))


def is_picture(file: str) -> bool:
    """Whether a file of the folder form is a picture in a split's folder."""
    return bool(_PICTURE.fullmatch(file)) and _split_folder(file) is not None


def split_of(file: str) -> str | None:
    """The split of a picture of the folder form: by its name, else by its folder.

    A test folder holds PublicTest and PrivateTest, which only the name tells apart.
    """
    usage = _USAGE.match(PurePosixPath(file).name)
    if usage:
        words = {word.lower(): split for word, split in USAGES.items()}
        return words[usage[1].lower()]
    return _split_folder(file)


def label_of(file: str) -> str | None:
    """The emotion of a picture of the folder form, None for a folder that names none."""
    label = labels.named(PurePosixPath(file).parent.name)
    return label if label in labels.FER2013 else None


def has_usage(file: str) -> bool:
    """Whether a picture's name says its usage."""
    return _USAGE.match(PurePosixPath(file).name) is not None


def record_id(file: str) -> str:
    """Class and name: some copies number the pictures of each class from 1."""
    path = PurePosixPath(file)
    return f"{split_of(file)}/{path.parent.name.lower()}/{path.stem}"


def expected() -> Mapping[str, int]:
    """Pictures of a whole copy by split."""
    return {USAGES[usage]: sum(counts) for usage, counts in COUNTS.items()}


def _split_folder(file: str) -> str | None:
    parts = PurePosixPath(file).parts
    return _SPLITS.get(parts[-3].lower()) if len(parts) >= 3 else None


def _parse_values(text: str) -> bytes:
    try:
        return bytes(map(int, text.split()))
    except ValueError:  # no number, or none from 0 to 255
        return b""


_CODES = {str(code): label for code, label in enumerate(labels.FER2013)}
