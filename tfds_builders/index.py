"""records.csv: one entry per stored record, in stored order, beside the records.

With it, protocols, counts and digests read no image.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_jax import errors
from tfds_builders import protocols

FILE = "records.csv"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One stored record without its image.

    Attributes:
      id: unique in the set.
      split: the TFDS split it is stored in.
      label: an emotion.
      subject: the person, video, movie or photo; "" if unknown.
      stratum: what is balanced over the splits; "" for nothing.
      face: how the face was found.
      look: of the stored image, `duplicates.look`; b"" when read: looks.npy contains it.
      digest: hash of the stored image file, 16 hex digits.
    """

    id: str
    split: str
    label: str
    subject: str
    stratum: str
    face: str
    look: bytes
    digest: str

    @property
    def row(self) -> protocols.Row:
        """The part that protocols use."""
        return protocols.Row(self.id, self.label, self.subject, self.split, self.stratum)


_COLUMNS = ["id", "split", "label", "subject", "stratum", "face", "digest"]
_OLD_COLUMNS = [*_COLUMNS[:-1], "look", "digest"]  # with hashes that are not used any more


def write(folder: Path, entries: Iterable[Entry]) -> str:
    """Writes records.csv into `folder`; returns its SHA-256."""
    with open(folder / FILE, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for entry in entries:
            table.writerow([getattr(entry, column) for column in _COLUMNS])
    return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()


def read(folder: Path) -> list[Entry]:
    """Reads records.csv.

    Raises:
      errors.UserError: The file is missing or damaged.
    """
    path = folder / FILE
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header not in (_COLUMNS, _OLD_COLUMNS):
                raise ValueError(f"columns {', '.join(header)}")
            # One object for each text that repeats: a million records have few of them.
            same = sys.intern
            return [
                Entry(record_id, same(split), same(label), same(subject), same(stratum),
                      same(face), b"", digest)
                for record_id, split, label, subject, stratum, face, *_, digest in rows
            ]  # fmt: skip
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise errors.UserError(
            f"expected the index of the records in {path}, found: {error}. Prepare the set again "
            "with --rebuild."
        ) from error


def is_unchanged(folder: Path, digest: str) -> bool:
    """Whether records.csv is unchanged: `digest` is its SHA-256."""
    try:
        return hashlib.sha256((folder / FILE).read_bytes()).hexdigest() == digest
    except OSError:
        return False


def rows(entries: Sequence[Entry]) -> list[protocols.Row]:
    """The rows for protocols, in stored order."""
    return [entry.row for entry in entries]


def splits(entries: Sequence[Entry], assigned: Mapping[str, str]) -> np.ndarray:
    """The split of each entry by a protocol's table of ids, str[N]; "" if it is in none."""
    return np.array([assigned.get(entry.id, "") for entry in entries], str)
