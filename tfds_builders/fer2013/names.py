"""FER2013's two layouts: a csv with one row per image, or one folder per class.

Parses rows and file names, for the builders of FER2013 and FER+ and their stand-ins.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from fer_jax import errors, labels
from fer_jax.faces.decode import UnreadableError
from tfds_builders import protocols, sources, splits, tables

SIDE = 48  # pixels
COLUMNS = ("emotion", "pixels", "Usage")
USAGES: dict[str, str] = {
    "Training": protocols.TRAIN,
    "PublicTest": protocols.VALIDATION,
    "PrivateTest": protocols.TEST,
}
"""The csv's `Usage` to split; published results are on PrivateTest."""

CODES: dict[str, str] = {str(code): label for code, label in enumerate(labels.FER2013)}
"""The csv's `emotion`."""

COUNTS: dict[str, tuple[int, ...]] = {
    "Training": (3_995, 436, 4_097, 7_215, 4_830, 3_171, 4_965),
    "PublicTest": (467, 56, 496, 895, 653, 415, 607),
    "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
}
"""Images per class of a complete copy by usage, in the order of `labels.FER2013`."""

TABLES = ("fer2013.csv", "icml_face_data.csv")  # the second has spaces in its header
CHALLENGE = "train.csv"  # the challenge's labeled part: emotion and pixels, without Usage
ARCHIVES = r".*(fer.?2013|icml|facial.?expression|archive).*\.(zip|tar|tgz|tar\.gz)"

_USAGE = re.compile(r"(training|publictest|privatetest)_", re.IGNORECASE)
_IMAGE = re.compile(r".*\.(jpe?g|png|bmp)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class CsvRow:
    """One image of the csv.

    Attributes:
      id: usage and row number, from 0.
      usage: one of `USAGES`; "" in the challenge's train.csv.
      label: one of `labels.FER2013`.
      values: the 48 x 48 gray values, row by row; empty if the row is invalid.
    """

    id: str
    usage: str
    label: str
    values: bytes

    def pixels(self) -> np.ndarray:
        """uint8[48, 48, 3] RGB; an invalid row is an `UnreadableError`."""
        if len(self.values) != SIDE * SIDE:
            raise UnreadableError(f"not {SIDE * SIDE} values from 0 to 255")
        gray = np.frombuffer(self.values, np.uint8).reshape(SIDE, SIDE, 1)
        return np.repeat(gray, 3, axis=2)


def find_table(names: Iterable[str]) -> str | None:
    """The csv among the files `names`: fer2013.csv rather than icml_face_data.csv."""
    by_name = {PurePosixPath(name).name.lower(): name for name in sorted(names, reverse=True)}
    return next((by_name[table] for table in TABLES if table in by_name), None)


def find_challenge(source: sources.Source) -> str | None:
    """The challenge's train.csv, told from others of that name by its columns; None if missing."""
    found = sources.find(source, CHALLENGE.replace(".", r"\."))
    return next(
        (name for name in found if tables.header(source, name) == ["emotion", "pixels"]), None
    )


def read_challenge(source: sources.Source, table: str) -> Iterator[CsvRow]:
    """Yields the rows of the challenge's train.csv."""
    for number, (line, values) in enumerate(tables.rows(source, table, COLUMNS[:2])):
        emotion, pixels = values
        if emotion not in CODES:
            raise errors.UserError(
                f"expected an emotion from 0 to 6 in line {line} of {table} in {source.path}, "
                f"found {emotion[:20]!r}. Use the file as its publisher sent it."
            )
        yield CsvRow(f"train_{number:05d}", "", CODES[emotion], _parse_values(pixels))


def read_table(
    source: sources.Source, table: str, codes: Mapping[str, str] = CODES
) -> Generator[CsvRow, None, None]:
    """Yields the rows of the csv; another Usage, or an emotion not in `codes`, is a `UserError`."""
    for number, (line, values) in enumerate(tables.rows(source, table, COLUMNS)):
        emotion, pixels, usage = values
        if usage not in USAGES or emotion not in codes:
            raise errors.UserError(
                f"expected an emotion from 0 to {len(codes) - 1} and a Usage of "
                f"{', '.join(USAGES)} in line {line} of {table} in {source.path}, found "
                f"{emotion[:20]!r} and {usage[:20]!r}. Use the file as its publisher sent it."
            )
        yield CsvRow(f"{usage}_{number:05d}", usage, codes[emotion], _parse_values(pixels))


def is_image(file: str) -> bool:
    """Whether a file of the folder layout is an image in the folder of a split."""
    return bool(_IMAGE.fullmatch(file)) and splits.is_split(_split_folder(file))


def split_of(files: Sequence[str]) -> dict[str, str]:
    """The split of each image of the folder layout: from its name, otherwise from its folder.

    A test folder may contain both PublicTest and PrivateTest, which differ by name only.
    """
    by_folder = splits.by_folder({_split_folder(file) for file in files})
    by_usage = {word.lower(): split for word, split in USAGES.items()}
    return {
        file: by_usage[usage[1].lower()]
        if (usage := _USAGE.match(PurePosixPath(file).name))
        else by_folder[_split_folder(file)]
        for file in files
    }


def label_of(file: str) -> str | None:
    """The emotion that an image's class folder names; None for other folders."""
    label = labels.named(PurePosixPath(file).parent.name)
    return label if label in labels.FER2013 else None


def has_usage(file: str) -> bool:
    """Whether an image's name starts with its usage."""
    return _USAGE.match(PurePosixPath(file).name) is not None


def record_id(file: str, split: str) -> str:
    """Split, class and name: some copies number the images of each class from 1."""
    path = PurePosixPath(file)
    return f"{split}/{path.parent.name.lower()}/{path.stem}"


def expected() -> Mapping[str, int]:
    """Images of a complete copy by split."""
    return {USAGES[usage]: sum(counts) for usage, counts in COUNTS.items()}


def _split_folder(file: str) -> str:
    """The folder above the class folder; "" if there is none."""
    parts = PurePosixPath(file).parts
    return parts[-3] if len(parts) >= 3 else ""


def _parse_values(text: str) -> bytes:
    try:
        return bytes(map(int, text.split()))
    except ValueError:  # not a number, or not from 0 to 255
        return b""
