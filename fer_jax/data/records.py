"""One split of a prepared data set: what is known of its records, and their pictures.

`open_split` reads everything but the pictures, which `Split.read` decodes one at a time;
`decode_all` decodes all of them into memory. Which rows form a batch is sampling's
matter.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from fer_jax.data.preprocess import Preprocessing
from fer_jax.errors import UserError
from fer_jax.faces.decode import UnreadableError, decode


class Prepared(Protocol):
    """What is used of a `tfds_builders.prepared.Prepared`; neither it nor TFDS is imported here."""

    @property
    def full_name(self) -> str:
        """Set, variant, version and protocol, for messages."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes in index order."""

    @property
    def entries(self) -> Sequence[Any]:
        """Of every stored record: id, subject and digest of its picture."""

    @property
    def splits(self) -> Mapping[str, np.ndarray]:
        """Row numbers of `entries` in each split."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known of the set; "pictures" is "whole" where they are stored uncut."""

    def labels(self, split: str) -> np.ndarray:
        """Indices into `label_names`."""

    def record(self, row: int) -> Mapping[str, Any]:
        """A record with its picture still encoded: image, id, face_box and landmarks."""


@dataclasses.dataclass(frozen=True)
class Split:
    """The records of a split, their pictures still encoded.

    Attributes:
      labels: int32[N], indices into `label_names`.
      ids: one unique name per record.
      groups: subject, video or movie of each record; "" where the set has none.
      label_names: the classes in index order.
      digest: of the pictures as they were written, labels, ids, groups, class order and
        framing; tells other data apart.
      read: row number to its framed picture, uint8[S, S, 3], RGB; safe from many threads.
    """

    labels: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    label_names: tuple[str, ...]
    digest: str
    read: Callable[[int], np.ndarray]

    def __post_init__(self) -> None:
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(
            self.label_names
        ):
            raise UserError(
                f"expected labels 0 to {len(self.label_names) - 1} "
                f"({', '.join(self.label_names)}), found {self.labels.min()} to "
                f"{self.labels.max()}; prepare the data set again"
            )
        if len(set(self.ids)) != len(self.ids):
            raise UserError(
                "expected unique record ids, found some twice; prepare the data set again"
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Records:
    """Pictures in memory and what is known of them; the attributes of `Split`, and `images`.

    Attributes:
      images: uint8[N, S, S, 3], RGB.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    label_names: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.labels)


def open_split(prepared: Prepared, split: str, preprocessing: Preprocessing) -> Split:
    """All that is known of a split's records but their pictures, none of which is read.

    Args:
      prepared: a data set under a protocol.
      split: such as "train".
      preprocessing: gives the framing; its normalisation is the step's.

    Raises:
      UserError: no such split, an empty one, pictures that are cut to the face already
        where a margin is asked for, labels outside the classes or an id that occurs twice.
    """
    rows = prepared.splits.get(split)
    if rows is None or not len(rows):
        filled = [name for name, some in prepared.splits.items() if len(some)]
        raise UserError(
            f"expected records in split {split!r} of {prepared.full_name}, found none; "
            f"splits with records: {', '.join(filled)}"
        )
    if preprocessing.face_margin is not None:
        _check_whole(prepared)
    entries = [prepared.entries[row] for row in rows]
    labels = prepared.labels(split)
    digest = _digest(entries, labels, prepared.label_names, preprocessing)

    def read(row: int) -> np.ndarray:
        record = prepared.record(int(rows[row]))
        picture = decode_image(record["image"], entries[row].id)
        x, y, width, height = map(int, record["face_box"])
        return preprocessing.framed(picture, (x, y, width, height), record["landmarks"])

    return Split(
        labels=labels,
        ids=tuple(one.id for one in entries),
        groups=tuple(one.subject for one in entries),
        label_names=prepared.label_names,
        digest=digest,
        read=read,
    )


def _digest(
    entries: Sequence[Any],
    labels: np.ndarray,
    label_names: Sequence[str],
    preprocessing: Preprocessing,
) -> str:
    """Of the pictures as they were written, by the digests that were taken then."""
    framing = preprocessing.framing
    lines = ["\0".join((*label_names, framing))]
    lines += [f"{one.id}\0{one.subject}\0{one.digest}" for one in entries]
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text + labels.tobytes()).hexdigest()


def decode_all(split: Split) -> Records:
    """All pictures of a split, in memory."""
    with ThreadPoolExecutor() as pool:  # OpenCV releases the interpreter lock
        images = np.stack(list(pool.map(split.read, range(len(split)))))
    return Records(images, split.labels, split.ids, split.groups, split.label_names, split.digest)


def decode_image(encoded: bytes, record_id: str) -> np.ndarray:
    """Decodes a stored image to uint8[H, W, 3] RGB.

    Raises:
      UserError: The bytes are not an image.
    """
    try:
        return decode(encoded)
    except UnreadableError as error:
        raise UserError(
            f"expected an image in record {record_id}, found {len(encoded)} bytes that cannot be "
            f"decoded ({error}); remove or replace it and prepare the data set again"
        ) from error


def _check_whole(prepared: Prepared) -> None:
    """A box in a picture that has been cut already would be cut in the wrong place."""
    if prepared.metadata.get("pictures") != "whole":
        raise UserError(
            f"expected whole pictures to cut to data.face_margin, found {prepared.full_name}, "
            "whose pictures are cut to the face already; leave --config.data.face_margin unset"
        )
