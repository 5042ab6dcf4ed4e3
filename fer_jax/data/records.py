"""One split of a prepared data set, decoded once into memory.

These sets are small (KDEF at 224 pixels is 737 MB), so training reads pictures
from RAM and never decodes one twice. Which rows form a batch is sampling's matter.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
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
class Records:
    """Pictures and what is known of them.

    Attributes:
      images: uint8[N, H, W, 3], RGB.
      labels: int32[N], indices into `label_names`.
      ids: one unique name per record.
      groups: subject, video or movie of each record; "" where the set has none.
      label_names: the classes in index order.
      digest: of pictures, labels, ids and class order; tells other data apart.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    label_names: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.labels)


def load_records(builder: Builder, split: str, preprocessing: Preprocessing) -> Records:
    """Decodes and frames one split.

    Args:
      builder: a prepared builder with the features image, label, id, subject and face_box.
      split: such as "train".
      preprocessing: gives the framing; its normalisation is the step's.

    Raises:
      UserError: no such split, an empty one, pictures that are cut to the face already
        where a margin is asked for, or a picture that cannot be decoded.
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

    def read(index: int) -> tuple[np.ndarray, Mapping[str, Any]]:
        record = source[index]
        picture = decode_picture(record["image"], _text(record["id"]))
        x, y, width, height = map(int, record["face_box"])
        return preprocessing.framed(picture, (x, y, width, height)), record

    with ThreadPoolExecutor() as pool:  # OpenCV releases the interpreter lock
        rows = list(pool.map(read, range(len(source))))
    return make_records(
        images=np.stack([image for image, _ in rows]),
        labels=np.array([record["label"] for _, record in rows], np.int32),
        ids=tuple(_text(record["id"]) for _, record in rows),
        groups=tuple(_text(record["subject"]) for _, record in rows),
        label_names=tuple(builder.info.features["label"].names),
    )


def make_records(
    images: np.ndarray,
    labels: np.ndarray,
    ids: tuple[str, ...],
    groups: tuple[str, ...],
    label_names: tuple[str, ...],
) -> Records:
    """Checks the parts against each other and adds their digest.

    Raises:
      UserError: a label outside the classes, or an id that occurs twice.
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(label_names):
        raise UserError(
            f"expected labels 0 to {len(label_names) - 1} ({', '.join(label_names)}), "
            f"found {labels.min()} to {labels.max()}; prepare the data set again"
        )
    if len(set(ids)) != len(ids):
        raise UserError("expected unique record ids, found some twice; prepare the data set again")
    digest = hashlib.sha256()
    for part in (images, labels):
        digest.update(np.ascontiguousarray(part))
    digest.update("\0".join((*ids, *groups, *label_names)).encode())
    return Records(images, labels, ids, groups, label_names, digest.hexdigest())


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
