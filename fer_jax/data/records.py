"""One split of a prepared data set: what is known of its records, and their pictures.

`open_split` reads everything but the pictures, which `Split.read` decodes one at a time;
`load_records` decodes all of them into memory, once. Which rows form a batch is sampling's
matter.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import cv2
import numpy as np

from fer_jax.data.preprocess import Preprocessing
from fer_jax.errors import UserError


class Builder(Protocol):
    """What is used of a `tfds.core.DatasetBuilder`; TFDS itself is not imported here."""

    @property
    def info(self) -> Any:
        """The set's features, splits and metadata."""

    def as_data_source(self, split: str, *, decoders: Any) -> Any:
        """Random access to a split's records."""


@dataclasses.dataclass(frozen=True)
class Split:
    """The records of a split, their pictures still encoded.

    Attributes:
      labels: int32[N], indices into `label_names`.
      ids: one unique name per record.
      groups: subject, video or movie of each record; "" where the set has none.
      label_names: the classes in index order.
      digest: of encoded pictures, labels, ids, groups, class order and framing; tells
        other data apart.
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


def open_split(builder: Builder, split: str, preprocessing: Preprocessing) -> Split:
    """Reads all that is known of a split's records but their pictures.

    Args:
      builder: a prepared builder with the features image, label, id, subject and face_box.
      split: such as "train".
      preprocessing: gives the framing; its normalisation is the step's.

    Raises:
      UserError: no such split, an empty one, pictures that are cut to the face already
        where a margin is asked for, labels outside the classes or an id that occurs twice.
    """
    splits = builder.info.splits
    if split not in splits or not splits[split].num_examples:
        filled = [name for name, info in splits.items() if info.num_examples]
        raise UserError(
            f"expected records in split {split!r} of {builder.info.full_name}, found none; "
            f"splits with records: {', '.join(filled)}"
        )
    if preprocessing.face_margin is not None:
        _check_whole(builder)
    from tensorflow_datasets import decode

    source = builder.as_data_source(split, decoders={"image": decode.SkipDecoding()})

    def read(row: int) -> np.ndarray:
        record = source[row]
        picture = decode_picture(record["image"], _text(record["id"]))
        x, y, width, height = map(int, record["face_box"])
        return preprocessing.framed(picture, (x, y, width, height))

    digest, rows = hashlib.sha256(), [source[row] for row in range(len(source))]
    ids = tuple(_text(record["id"]) for record in rows)
    groups = tuple(_text(record["subject"]) for record in rows)
    labels = np.array([record["label"] for record in rows], np.int32)
    label_names = tuple(builder.info.features["label"].names)
    for record in rows:
        digest.update(record["image"])
    digest.update(labels)
    framing = f"{preprocessing.size} {preprocessing.face_margin}"
    digest.update("\0".join((*ids, *groups, *label_names, framing)).encode())
    return Split(labels, ids, groups, label_names, digest.hexdigest(), read)


def load_records(builder: Builder, split: str, preprocessing: Preprocessing) -> Records:
    """Decodes and frames one split; arguments and errors are `open_split`'s.

    Raises:
      UserError: as `open_split`, or a picture that cannot be decoded.
    """
    return decode_all(open_split(builder, split, preprocessing))


def decode_all(split: Split) -> Records:
    """All pictures of a split, in memory."""
    with ThreadPoolExecutor() as pool:  # OpenCV releases the interpreter lock
        images = np.stack(list(pool.map(split.read, range(len(split)))))
    return Records(images, split.labels, split.ids, split.groups, split.label_names, split.digest)


def decode_picture(encoded: bytes, name: str) -> np.ndarray:
    """Decodes JPEG or PNG bytes to uint8[H, W, 3] RGB.

    Raises:
      UserError: the bytes are no picture; `name` says which.
    """
    pixels = np.frombuffer(encoded, np.uint8)
    picture = cv2.imdecode(pixels, cv2.IMREAD_COLOR) if pixels.size else None
    if picture is None:
        raise UserError(
            f"expected a picture, found {len(encoded)} bytes that cannot be decoded in {name}; "
            "remove or replace it and prepare the data set again"
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _check_whole(builder: Builder) -> None:
    """A box in a picture that has been cut already would be cut in the wrong place."""
    if builder.info.metadata.get("pictures") != "whole":
        raise UserError(
            f"expected whole pictures to cut to data.face_margin, found {builder.info.full_name}, "
            "whose pictures are cut to the face already; leave --config.data.face_margin unset"
        )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
