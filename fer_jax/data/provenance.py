"""Where records come from: what decides whether a network has seen an image or a person before.

A run directory contains the provenance of what its network learned from, `learned.npz`. That of a
run that is passed on holds digests instead of pixels, which find exact copies only. Counting
what it shares with evaluated records is the task of `fer_jax.experiments.overlap`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_TEXTS = ("sets", "ids", "subjects", "labels", "unknown")


@dataclasses.dataclass(frozen=True, eq=False)
class Provenance:
    """Origin of N records.

    Attributes:
      sets: data set of each record; ids and subjects are comparable within a set only.
      ids: record ids.
      subjects: person, video or movie of each record; "" if unknown.
      labels: class of each record.
      looks: uint8[N, B], what near-duplicates are found by; 0 for records without pixels.
      digests: uint64[N] of the looks of records without pixels; 0 for the others.
      unknown: runs that the network learned from too, but whose records are unknown.
    """

    sets: tuple[str, ...]
    ids: tuple[str, ...]
    subjects: tuple[str, ...]
    labels: tuple[str, ...]
    looks: np.ndarray
    digests: np.ndarray
    unknown: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, prepared: Any, rows: Sequence[int] | np.ndarray) -> Provenance:
        """Returns the provenance of rows of a `tfds_builders.prepared.Prepared`."""
        entries = [prepared.entries[row] for row in rows]
        return cls(
            sets=(prepared.origin,) * len(entries),
            ids=tuple(entry.id for entry in entries),
            subjects=tuple(entry.subject for entry in entries),
            labels=tuple(entry.label for entry in entries),
            looks=np.asarray(prepared.looks[np.asarray(rows, np.int64)]),
            digests=np.zeros(len(entries), np.uint64),
        )

    @property
    def has_pixels(self) -> np.ndarray:
        """bool[N]: whether near-duplicates of a record can be found, or exact copies only."""
        return self.digests == 0

    def look_digests(self) -> np.ndarray:
        """Returns uint64[N], equal for equal looks."""
        computed = digests_of(self.looks[self.has_pixels])
        found = self.digests.copy()
        found[self.has_pixels] = computed
        return found

    def without_pixels(self) -> Provenance:
        """Returns a copy with digests instead of looks, from which no image can be made."""
        return dataclasses.replace(
            self, looks=np.zeros_like(self.looks), digests=self.look_digests()
        )

    def joined(self, other: Provenance | None, name: str) -> Provenance:
        """Returns these records and those of another run, named in `unknown` if it is None."""
        if other is None:
            return dataclasses.replace(self, unknown=(*self.unknown, name))
        texts = {field: getattr(self, field) + getattr(other, field) for field in _TEXTS}
        return Provenance(
            looks=np.concatenate([self.looks, other.looks]),
            digests=np.concatenate([self.digests, other.digests]),
            **texts,
        )

    def to_bytes(self) -> bytes:
        """Returns the content of an npz file without pickles."""
        content = io.BytesIO()
        texts = {field: _pack(getattr(self, field)) for field in _TEXTS}
        arrays = {"looks": self.looks}
        if not self.has_pixels.all():
            arrays["digests"] = self.digests
        np.savez_compressed(content, allow_pickle=False, **arrays, **texts)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Provenance:
        """Reads back `to_bytes`.

        Raises:
          ValueError: the content is another kind of file.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                texts = {field: _unpack(stored[field]) for field in _TEXTS}
                looks = stored["looks"]
                digests = stored.get("digests", np.zeros(len(looks), np.uint64))
                return cls(looks=looks, digests=digests, **texts)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"not a provenance ({error})") from error


def digests_of(looks: np.ndarray) -> np.ndarray:
    """Returns a 64-bit digest of each row of uint8[N, B], never 0: uint64[N]."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in looks]
    return np.maximum(np.frombuffer(b"".join(digests), "<u8"), 1).astype(np.uint64)


def _pack(texts: Iterable[str]) -> np.ndarray:
    # File names contain no NUL, but may contain surrogate escapes.
    joined = "".join(f"{text}\0" for text in texts)
    return np.frombuffer(joined.encode("utf-8", "surrogateescape"), np.uint8)


def _unpack(packed: np.ndarray) -> tuple[str, ...]:
    return tuple(packed.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])
