"""The records of one split of a prepared data set: labels of every kind, ids, groups and images.

`open_split` reads no images; `Split.read` decodes one, and `decode_all` all of them into memory.
`sampling` chooses which rows form a batch.
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
from fer_jax.heads import AFFECT, NO_HEADS, UNITS, Heads


class Prepared(Protocol):
    """The part of `tfds_builders.prepared.Prepared` used here, without importing it and TFDS."""

    @property
    def full_name(self) -> str:
        """Set, variant, version and protocol, for messages."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes in index order."""

    @property
    def unit_names(self) -> tuple[str, ...]:
        """The action units that the set stores; () if none."""

    @property
    def entries(self) -> Sequence[Any]:
        """Id, subject and image digest of every stored record."""

    @property
    def splits(self) -> Mapping[str, np.ndarray]:
        """Row numbers of `entries` in each split."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of the set; "pictures" is "whole" if the images are stored uncropped."""

    def labels(self, split: str) -> np.ndarray:
        """Indices into `label_names`."""

    def votes(self, split: str) -> np.ndarray | None:
        """Share of the votes for each class, float32[N, C]; None if the set stores no votes."""

    def units(self, split: str) -> np.ndarray | None:
        """1 if a unit of `unit_names` is shown, 0 if not, NaN if unknown: float32[N, U]."""

    def affect(self, split: str) -> np.ndarray | None:
        """Valence and arousal in -1..1, float32[N, 2], NaN if unknown; None if none are stored."""

    def record(self, row: int) -> Mapping[str, Any]:
        """Image (encoded), id, face_box and landmarks of a record."""


@dataclasses.dataclass(frozen=True)
class Split:
    """The records of a split, with encoded images.

    Attributes:
      labels: int32[N], indices into `label_names`.
      ids: one unique name per record.
      groups: subject, video or movie of each record; "" if the set has none.
      label_names: the classes in index order.
      digest: of the encoded images, labels, ids, groups, class order, framing and targets.
      read: maps a row number to its framed RGB image, uint8[S, S, 3]; thread-safe.
      targets: float32[N, C], the distributions that training fits; None to fit the labels.
      extras: float32[N, E], labels of further heads, see `heads.Heads`; None if there are none.
    """

    labels: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    label_names: tuple[str, ...]
    digest: str
    read: Callable[[int], np.ndarray]
    targets: np.ndarray | None = None
    extras: np.ndarray | None = None

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
                "expected unique record ids, found duplicates; prepare the data set again"
            )

    def __len__(self) -> int:
        return len(self.labels)


class ImagesOnDemand:
    """Images uint8[N, S, S, 3] that are decoded each time they are indexed, and not kept.

    Args:
      read: decodes the image of a row, uint8[S, S, 3]; thread-safe.
      rows: int64[N], of `read`.
    """

    def __init__(self, read: Callable[[int], np.ndarray], rows: np.ndarray) -> None:
        self._read, self._rows = read, rows
        self._pool = ThreadPoolExecutor(thread_name_prefix="decode")  # OpenCV releases the GIL
        self.shape = (len(rows), *read(int(rows[0])).shape) if len(rows) else (0, 0, 0, 3)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        """As NumPy: the image of a number, or uint8[*index.shape, S, S, 3] of an array."""
        rows = self._rows[index]
        if np.ndim(rows) == 0:
            return self._read(int(rows))
        images = list(self._pool.map(self._read, rows.reshape(-1).tolist()))
        return np.stack(images).reshape(*rows.shape, *self.shape[1:])

    def subset(self, rows: np.ndarray) -> ImagesOnDemand:
        """These of the images, not decoded yet."""
        return ImagesOnDemand(self._read, self._rows[rows])


@dataclasses.dataclass(frozen=True)
class Records:
    """Records with decoded images: the attributes of `Split`, and `images`.

    Attributes:
      images: uint8[N, S, S, 3], RGB; in memory, or decoded on demand.
    """

    images: Any
    labels: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    label_names: tuple[str, ...]
    digest: str
    targets: np.ndarray | None = None
    extras: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


def open_split(
    prepared: Prepared,
    split: str,
    preprocessing: Preprocessing,
    targets: str = "majority",
    heads: Heads = NO_HEADS,
) -> Split:
    """Opens a split without reading its images.

    Args:
      prepared: a data set under a protocol.
      split: name of the split, such as "train".
      preprocessing: frames the images; normalization is not applied.
      targets: what training fits, one of `settings.TARGETS`.
      heads: of the network, for the labels of further ones.

    Raises:
      UserError: a missing or empty split, `face_margin` for images that are cropped already,
        labels out of range, duplicate ids, "votes" of a set without votes, or a head that the
        split has no labels for.
    """
    rows = prepared.splits.get(split)
    if rows is None or not len(rows):
        filled = [name for name, members in prepared.splits.items() if len(members)]
        raise UserError(
            f"expected records in split {split!r} of {prepared.full_name}, found none; "
            f"splits with records: {', '.join(filled)}"
        )
    if preprocessing.face_margin is not None:
        _check_whole(prepared)
    entries = [prepared.entries[row] for row in rows]
    labels = prepared.labels(split)
    votes = _votes(prepared, split) if targets == "votes" else None
    extras = read_extras(prepared, split, heads) if heads.names else None
    digest = _digest(entries, (labels, votes, extras), prepared.label_names, preprocessing)

    def read(row: int) -> np.ndarray:
        record = prepared.record(int(rows[row]))
        image = decode_image(record["image"], entries[row].id)
        x, y, width, height = map(int, record["face_box"])
        return preprocessing.framed(image, (x, y, width, height), record["landmarks"])

    return Split(
        labels=labels,
        ids=tuple(one.id for one in entries),
        groups=tuple(one.subject for one in entries),
        label_names=prepared.label_names,
        digest=digest,
        read=read,
        targets=votes,
        extras=extras,
    )


def find_heads(prepared: Prepared, names: Sequence[str]) -> Heads:
    """Returns the heads of a network that learns from a data set.

    Args:
      prepared: the data set.
      names: of the further heads, as in `config.model.heads`.

    Raises:
      UserError: the data set has no labels for one of them.
    """
    units = prepared.unit_names if UNITS in names else ()
    if UNITS in names and not units:
        raise _unlabeled(prepared, UNITS, "action units")
    return Heads(len(prepared.label_names), units, AFFECT in names)


def read_extras(prepared: Prepared, split: str, heads: Heads) -> np.ndarray:
    """Returns the labels of the further heads, float32[N, E]; NaN where unknown.

    Raises:
      UserError: the split has none for one of the heads.
    """
    wanted = [(UNITS, "action units", prepared.units)] if heads.units else []
    wanted += [(AFFECT, "valence and arousal", prepared.affect)] if heads.affect else []
    columns = []
    for name, text, read in wanted:
        found = read(split)
        if found is None or np.isnan(found).all():
            raise _unlabeled(prepared, name, text)
        columns.append(found)
    return np.concatenate(columns, axis=1)


def _unlabeled(prepared: Prepared, head: str, text: str) -> UserError:
    return UserError(
        f"expected a data set that stores {text} for model.heads={head}, found "
        f"{prepared.full_name}, which stores none; leave {head} out of --config.model.heads"
    )


def _votes(prepared: Prepared, split: str) -> np.ndarray:
    votes = prepared.votes(split)
    if votes is None:
        raise UserError(
            f"expected a data set that stores votes for data.targets=votes, found "
            f"{prepared.full_name}, which stores one label per image; use "
            "--config.data.targets=majority"
        )
    return votes


def _digest(
    entries: Sequence[Any],
    arrays: Sequence[np.ndarray | None],
    label_names: Sequence[str],
    preprocessing: Preprocessing,
) -> str:
    """Returns `Split.digest`; image digests were computed when the set was prepared."""
    framing = preprocessing.framing
    lines = ["\0".join((*label_names, framing))]
    lines += [f"{one.id}\0{one.subject}\0{one.digest}" for one in entries]
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    values = b"".join(array.tobytes() for array in arrays if array is not None)
    return hashlib.sha256(text + values).hexdigest()


def decode_all(split: Split) -> Records:
    """Decodes all images of a split into memory."""
    first = split.read(0)
    images = np.empty((len(split), *first.shape), np.uint8)
    images[0] = first

    def decode_into(row: int) -> None:
        images[row] = split.read(row)

    with ThreadPoolExecutor() as pool:  # OpenCV releases the GIL
        for _ in pool.map(decode_into, range(1, len(split))):  # raises what a thread raised
            pass
    return _records(split, images)


def decode_on_demand(split: Split) -> Records:
    """Returns the records of a split whose memory does not grow with the number of images."""
    return _records(split, ImagesOnDemand(split.read, np.arange(len(split))))


def _records(split: Split, images: Any) -> Records:
    fields = {one.name: getattr(split, one.name) for one in dataclasses.fields(split)}
    del fields["read"]
    return Records(images=images, **fields)


def decode_image(encoded: bytes, record_id: str) -> np.ndarray:
    """Decodes a stored image to uint8[H, W, 3] RGB.

    Raises:
      UserError: the bytes are not an image.
    """
    try:
        return decode(encoded)
    except UnreadableError as error:
        raise UserError(
            f"expected an image in record {record_id}, found {len(encoded)} bytes that cannot be "
            f"decoded ({error}); remove or replace it and prepare the data set again"
        ) from error


def _check_whole(prepared: Prepared) -> None:
    """Raises `UserError` if images are stored cropped: face boxes apply to whole images."""
    if prepared.metadata.get("pictures") != "whole":
        raise UserError(
            f"expected whole images to crop with data.face_margin, found {prepared.full_name}, "
            "whose images are cropped to the face already; leave --config.data.face_margin unset"
        )
