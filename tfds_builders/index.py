"""records.csv: what is known of each stored record, in stored order, beside the records.

Protocols, counts and digests need no picture; with this file nothing reads them. It
decides nothing.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from fer_jax import errors
from tfds_builders import protocols

FILE = "records.csv"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One stored record without its picture.

    Attributes:
      id: Unique in the set.
      split: The TFDS split that it is stored in.
      label: An emotion.
      subject: The person, video, movie or photo; "" if unknown.
      stratum: What is balanced over the splits; "" for nothing.
      face: How the face was found.
      look: Perceptual hashes of the stored picture, `duplicates.look`.
      digest: Of the stored picture's bytes, 16 hex digits.
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
        """What protocols may look at."""
        return protocols.Row(self.id, self.label, self.subject, self.split, self.stratum)


_COLUMNS = [field.name for field in dataclasses.fields(Entry)]


def write(folder: Path, entries: Iterable[Entry]) -> str:
    """Writes the file into the folder of a set's records; returns its sha256."""
    with open(folder / FILE, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for one in entries:
            *texts, look, digest = dataclasses.astuple(one)
            table.writerow([*texts, look.hex(), digest])
    return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()


def read(folder: Path) -> list[Entry]:
    """Reads the file back.

    Raises:
      errors.UserError: It is missing or damaged.
    """
    path = folder / FILE
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *rows = csv.reader(file)
        if header != _COLUMNS:
            raise ValueError(f"columns {', '.join(header)}")
        return [_entry(*row) for row in rows]
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise errors.UserError(
            f"expected what is known of the records in {path}, found: {error}. Prepare the set "
            "again with --rebuild."
        ) from error


def _entry(
    one: str, split: str, label: str, subject: str, stratum: str, face: str, look: str, digest: str
) -> Entry:
    return Entry(one, split, label, subject, stratum, face, bytes.fromhex(look), digest)


def is_whole(folder: Path, digest: str) -> bool:
    """Whether the file is the one that was written."""
    try:
        return hashlib.sha256((folder / FILE).read_bytes()).hexdigest() == digest
    except OSError:
        return False


def rows(entries: Sequence[Entry]) -> list[protocols.Row]:
    """What protocols may look at, in stored order."""
    return [one.row for one in entries]
