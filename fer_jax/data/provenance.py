"""Where records come from: what decides whether a network has seen an image or a person before.

A run directory contains the provenance of what its network learned from, `learned.npz`. Counting
what it shares with evaluated records is the task of `fer_jax.experiments.overlap`.
"""

from __future__ import annotations

import dataclasses
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
      looks: uint8[N, B], what near-duplicates are found by.
      unknown: runs that the network learned from too, but whose records are unknown.
    """

    sets: tuple[str, ...]
    ids: tuple[str, ...]
    subjects: tuple[str, ...]
    labels: tuple[str, ...]
    looks: np.ndarray
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
        )

    def joined(self, other: Provenance | None, name: str) -> Provenance:
        """Returns these records and those of another run, named in `unknown` if it is None."""
        if other is None:
            return dataclasses.replace(self, unknown=(*self.unknown, name))
        texts = {field: getattr(self, field) + getattr(other, field) for field in _TEXTS}
        return Provenance(looks=np.concatenate([self.looks, other.looks]), **texts)

    def to_bytes(self) -> bytes:
        """Returns the content of an npz file without pickles."""
        content = io.BytesIO()
        texts = {field: _pack(getattr(self, field)) for field in _TEXTS}
        np.savez_compressed(content, looks=self.looks, allow_pickle=False, **texts)
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
                return cls(looks=stored["looks"], **texts)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"not a provenance ({error})") from error


def _pack(texts: Iterable[str]) -> np.ndarray:
    # File names contain no NUL, but may contain surrogate escapes.
    joined = "".join(f"{text}\0" for text in texts)
    return np.frombuffer(joined.encode("utf-8", "surrogateescape"), np.uint8)


def _unpack(packed: np.ndarray) -> tuple[str, ...]:
    return tuple(packed.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])
