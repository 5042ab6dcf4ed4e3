"""A prepared data set under one protocol: its records, and the split of each.

Opening reads the index beside the records, no image. `fer_jax.data.records` decodes and frames
the images.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import errors
from fer_jax.faces.decode import decode
from tfds_builders import index, leaks, protocols
from tfds_builders import relabel as relabeling

_NO_LOOKS = np.zeros((0, 0), np.uint8)
_NO_ATTRIBUTES = frozenset({"image", "label", "id", "subject"})


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """Records of a set, split by a protocol.

    Attributes:
      builder: the `StoredBuilder` that wrote the records.
      protocol: the protocol that assigns records to splits.
      seed: random seed of the protocol.
      label_names: the protocol's classes in index order.
      entries: the index entries of all records, in stored order.
      splits: split to int64[N], row numbers of `entries`.
      metadata: metadata of the builder, and protocol, label_names, notes, mask, leaks,
        near_duplicates, test_copies and digest of this protocol, and "relabeled": what a
        relabel.csv changed, by split.
      looks: uint8[N, B], `duplicates.look` of each entry.
      pairs: int64[P, 2], near-duplicate entries.
      is_new: whether the records were prepared just now.
    """

    builder: Any
    protocol: protocols.Protocol
    seed: int
    label_names: tuple[str, ...]
    entries: Sequence[index.Entry]
    splits: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any]
    looks: np.ndarray
    pairs: np.ndarray
    is_new: bool = False
    _sources: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def full_name(self) -> str:
        """Set, variant, version and protocol: "kdef/face/2.0.0 subject"."""
        return f"{self.builder.info.full_name} {self.protocol.name}"

    @property
    def origin(self) -> str:
        """The set, within which ids and subjects are comparable; for a folder also its name."""
        name = str(self.builder.name)
        is_folder = name == "image_folder"
        return f"{name}/{self.builder.builder_config.name}" if is_folder else name

    def labels(self, split: str) -> np.ndarray:
        """int32[N]: indices into `label_names`, in the order of `splits`."""
        numbers = {name: number for number, name in enumerate(self.label_names)}
        return np.array([numbers[self.entries[row].label] for row in self.splits[split]], np.int32)

    def votes(self, split: str) -> np.ndarray | None:
        """float32[N, C]: the share of each class in an image's votes; None if none are stored.

        Votes for none of `label_names` do not count.
        """
        if not self.builder.VOTES:
            return None
        counts = np.array([self.record(int(row))["votes"] for row in self.splits[split]])
        columns = [self.builder.VOTES.index(name) for name in self.label_names]
        counts = counts.reshape(-1, len(self.builder.VOTES))[:, columns].astype(np.float32)
        return counts / counts.sum(axis=1, keepdims=True)

    @property
    def unit_names(self) -> tuple[str, ...]:
        """The action units that the set stores, by their FACS names; () if none."""
        units: tuple[str, ...] = self.builder.UNITS
        return units

    def units(self, split: str) -> np.ndarray | None:
        """1 if a unit of `unit_names` is shown, 0 if not, NaN if unknown: float32[N, U]."""
        if not self.unit_names:
            return None
        found = np.array([self.record(int(row))["action_units"] for row in self.splits[split]])
        shown = (found >= self.builder.UNIT_SHOWN).astype(np.float32)
        return np.where(np.isnan(found), np.float32(np.nan), shown)

    def affect(self, split: str) -> np.ndarray | None:
        """Valence and arousal in -1..1, float32[N, 2], NaN if unknown; None if none are stored."""
        if "valence" not in self.builder.info.features:
            return None
        records = [self.record(int(row)) for row in self.splits[split]]
        found = np.array([(one["valence"], one["arousal"]) for one in records], np.float32)
        return np.where(np.abs(found) <= 1, found, np.float32(np.nan))  # AffectNet's -2 is none

    def attributes(self, split: str) -> dict[str, list[str] | list[float]]:
        """Scalar and text features of each record, by feature name.

        Includes face_source; excludes image, label, id, subject, boxes and landmarks.
        """
        features = self.builder.info.features
        kinds = {
            name: reader
            for name in features
            if name not in _NO_ATTRIBUTES and (reader := _reader(features[name])) is not None
        }
        records = [self.record(int(row)) for row in self.splits[split]]
        return {name: [read(record[name]) for record in records] for name, read in kinds.items()}

    def record(self, row: int) -> Mapping[str, Any]:
        """A stored record, its image still encoded; `row` as in `splits`.

        Raises:
          errors.UserError: The data is damaged, or another record is stored in this row.
        """
        entry = self.entries[row]
        try:
            record = self._source(entry.split)[row - self._first_rows[entry.split]]
        except Exception as error:  # array_record and protobuf raise errors of many types
            raise errors.UserError(
                f"expected the record {entry.id} in {self.builder.data_dir}, found damaged data "
                f"({error}); prepare the set again with --rebuild"
            ) from error
        if _text(record["id"]) != entry.id:
            raise errors.UserError(
                f"expected the record {entry.id} in {self.builder.data_dir}, found "
                f"{_text(record['id'])}; prepare the set again with --rebuild"
            )
        return record

    @functools.cached_property
    def _first_rows(self) -> dict[str, int]:
        """Row of the first record of each stored split."""
        first: dict[str, int] = {}
        for row, entry in enumerate(self.entries):
            first.setdefault(entry.split, row)
        return first

    def _source(self, split: str) -> Any:
        if split not in self._sources:
            from tensorflow_datasets import decode

            skip = {"image": decode.SkipDecoding()}
            self._sources[split] = self.builder.as_data_source(split, decoders=skip)
        return self._sources[split]


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pauses Python's garbage collector, which would go through all entries again and again.

    A million entries make no reference cycles, and took it a third of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_collector_paused()
def open_prepared(
    builder: Any,
    protocol: protocols.Protocol,
    seed: int,
    *,
    is_new: bool = False,
    relabel: Path | None = None,
    train_images: int | None = None,
) -> Prepared:
    """Opens the records that a builder has written, under a protocol.

    Args:
      builder: the `StoredBuilder`.
      protocol: assigns the records to splits, by their given labels.
      seed: random seed of the protocol.
      is_new: whether the records were prepared just now.
      relabel: a table of decisions about labels, see `relabel`.
      train_images: size of the train split, see `sample`; None for all of its images.

    Raises:
      errors.UserError: The index is damaged, the protocol leaves a split without a class, the
        table of decisions cannot be used, or there are too few images for `train_images`.
    """
    folder = Path(builder.data_dir)
    entries = index.read(folder)
    names = protocol.label_names or tuple(builder.info.metadata["label_names"])
    assigned = assign(index.rows(entries), protocol, names, seed, builder.name)
    of = index.splits(entries, assigned)
    rows = {split: np.flatnonzero(of == split) for split in protocols.SPLITS}
    texts: Mapping[str, str] = {}
    if relabel is not None:
        entries, rows, texts = _relabeled(relabel, entries, names, rows)
    notes = [note for note in (builder.info.metadata["notes"], protocol.note) if note]
    if train_images is not None:
        whole = rows[protocols.TRAIN]
        kept = sample([entries[row].label for row in whole], train_images, seed)
        rows[protocols.TRAIN] = whole[kept]
        notes.append(f"{train_images:,} of {len(whole):,} training images (data.train_images)")
    splits = _split_of_each(rows, len(entries))
    result = Prepared(
        builder, protocol, seed, names, entries, rows, {}, _NO_LOOKS, _NO_LOOKS, is_new
    )
    looks, pairs = leaks.read(folder, entries, lambda row: decode(result.record(row)["image"]))
    left_out = [entry.label for entry in entries if entry.label not in names]
    metadata = dict(builder.info.metadata.items()) | {
        "protocol": protocol.name,
        "protocol_seed": seed,
        "label_names": list(names),
        "stored": len(entries),
        "mask": protocol.mask,
        "notes": notes,
        "leaks": leaks.count_shared(entries, splits),
        "similar_pairs": len(pairs),
        "near_duplicates": leaks.count_pairs(pairs, splits),
        "test_copies": leaks.count_copies(entries, pairs, splits),
        "left_out": dict(collections.Counter(left_out)),
        "relabeled": texts,
        "digest": _digest(entries, rows, names),
    }
    return dataclasses.replace(result, metadata=metadata, looks=looks, pairs=pairs)


def _split_of_each(rows: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """Returns the split of each record, str[count]; "" in none."""
    splits: np.ndarray = np.full(count, "", f"U{max(map(len, rows))}")
    for split, part in rows.items():
        splits[part] = split
    return splits


def _relabeled(
    path: Path,
    entries: Sequence[index.Entry],
    names: Sequence[str],
    rows: Mapping[str, np.ndarray],
) -> tuple[list[index.Entry], dict[str, np.ndarray], dict[str, str]]:
    """Returns entries and splits after the decisions of a table, and what it changed by split."""
    found = relabeling.apply(path, entries, names)
    ids = {split: [entries[row].id for row in part] for split, part in rows.items()}
    texts = {split: text for split, part in ids.items() if (text := found.count(part))}
    return found.entries, {split: found.remaining(part) for split, part in rows.items()}, texts


def assign(
    rows: Sequence[protocols.Row],
    protocol: protocols.Protocol,
    stored_names: Sequence[str],
    seed: int,
    name: str,
) -> Mapping[str, str]:
    """Assigns the records of the protocol's classes: record id to split.

    Raises:
      errors.UserError: Too few records or groups, or a split without some class.
    """
    names = protocol.label_names or tuple(stored_names)
    used = [row for row in rows if row.label in names]
    assigned = protocol.assign(used, seed)
    present: dict[str, set[str]] = {split: set() for split in protocols.SPLITS}
    for row in used:
        if row.id in assigned:
            present[assigned[row.id]].add(row.label)
    # A fold may lack a rare class in its test split: results are pooled over the folds.
    needed = (protocols.TRAIN,) if protocols.is_fold(protocol.name) else protocols.SPLITS
    for split in needed:
        missing = [label for label in names if label not in present[split]]
        if missing:
            raise errors.UserError(
                f"expected images of every class in every split of {name} (protocol "
                f"{protocol.name}), found none of {', '.join(missing)} in {split}. "
                "The copy is incomplete, or another protocol fits it (--protocol)."
            )
    return assigned


def sample(labels: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Chooses images at random such that each class keeps its share, and at least one image.

    With the same seed, a smaller choice is a part of a larger one.

    Returns:
      int64[count], ascending indices into `labels`.

    Raises:
      errors.UserError: `count` is below the number of classes or above that of images.
    """
    classes = len(set(labels))
    if not classes <= count <= len(labels):
        raise errors.UserError(
            f"expected data.train_images from {classes:,} (one of each class) to {len(labels):,} "
            f"(all of the train split), found {count:,}"
        )
    sizes = collections.Counter(labels)
    ranks: collections.Counter[str] = collections.Counter()
    shares = np.zeros(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    for image in order:  # in random order: how much of its class comes before an image
        shares[image] = ranks[labels[image]] / sizes[labels[image]]
        ranks[labels[image]] += 1
    first = order[np.argsort(shares[order], kind="stable")[:count]]
    return np.sort(first).astype(np.int64)


def _digest(
    entries: Sequence[index.Entry], rows: Mapping[str, np.ndarray], names: Sequence[str]
) -> str:
    """Hash of the images, labels, classes and splits."""
    lines = ["\0".join(names)]
    for split, of_split in rows.items():
        lines.append(split)
        chosen = [entries[row] for row in of_split]
        lines += [f"{entry.id}\0{entry.label}\0{entry.digest}" for entry in chosen]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _reader(feature: Any) -> Callable[[Any], Any] | None:
    """Returns a function from feature value to text or number; None if it is neither."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return lambda value: feature.names[int(value)]
    if isinstance(feature, tfds.features.Text):
        return _text
    if isinstance(feature, tfds.features.Scalar):
        return float
    return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
