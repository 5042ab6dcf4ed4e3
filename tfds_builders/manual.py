"""The base of every set that the user brings, because nobody may redistribute it.

A builder names what it accepts (`open_source`) and reads names and label files into
records (`index`); its protocols say who goes where. Finding faces, counting what was
dropped, the metadata and writing are done here, once. See kdef/ for the smallest
example.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import csv
import dataclasses
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors
from fer_jax.faces.crop import FaceCrop
from fer_jax.monitor import console
from tfds_builders import crops, protocols, sources, stored
from tfds_builders.index import Entry
from tfds_builders.record import Record as Record  # builders say manual.Record
from tfds_builders.stand_in_mark import STAND_IN_FILE

MAX_UNREADABLE = 20  # more is a broken copy, not a broken picture
DUPLICATE = "a second copy of the same picture"

_NAMED = 5  # names in an error message
_SEEN = frozenset({crops.BLACK, crops.UNREADABLE})  # drops that were records at first


@dataclasses.dataclass(eq=False)
class Variant(tfds.core.BuilderConfig):
    """How a set's faces are cut: a TFDS config. Protocols share its records.

    Attributes:
      crop: How faces are cut out.
      label_names: The stored classes in index order, where they are not the set's.
      base: The variant of the set that this one was made from, where the user changed `crop`.
      lossless: Whether pictures that had no loss before are stored without one (PNG): a JPEG
        of 48 pixels is another picture.
      expected: As `ManualBuilder.EXPECTED`, where this variant has fewer pictures than the set.
    """

    crop: FaceCrop = dataclasses.field(default_factory=FaceCrop)
    label_names: tuple[str, ...] = ()
    base: str = ""
    lossless: bool = False
    expected: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A user's copy, read as far as names and label files go."""

    source: sources.Source
    records: Sequence[Record]
    drops: Sequence[crops.Drop]
    stand_in: bool


class ManualBuilder(stored.StoredBuilder):
    """Shared work of the builders of sets that the user brings.

    A subclass sets `VERSION`, `BUILDER_CONFIGS` (of `Variant`; the first is the default),
    `LABEL_NAMES`, `PROTOCOLS` (the first is the default) and `EXPECTED`, and defines
    `open_source` and `index`.
    """

    LABEL_NAMES: ClassVar[tuple[str, ...]]
    EXPECTED: ClassVar[int | Mapping[str, int]]
    """Pictures in a whole copy: their number, or that of each stored split."""
    DERIVED_LABELS: ClassVar[str] = ""
    """The rule that labels follow from, such as "facs_v1"; "" where people gave them."""
    NOTES: ClassVar[str] = ""
    """What every report on this set must say."""
    DROPS_BLACK: ClassVar[bool] = False
    """Whether black pictures are known to be of no use in this set."""
    MAX_UNREADABLE: ClassVar[int] = MAX_UNREADABLE
    """More unreadable pictures than that stop the preparation."""

    opened: Opened | None = None
    """What `open` read last, so that a preparation reads it once."""

    @abc.abstractmethod
    def open_source(self, manual_dir: Path) -> sources.Source:
        """The user's copy in or below `manual_dir`, or a `UserError` that helps to get it."""

    @abc.abstractmethod
    def index(self, source: sources.Source) -> tuple[Sequence[Record], Sequence[crops.Drop]]:
        """All pictures of the set by name, and those that are never used; reads no picture.

        Labels are among the stored classes. Records of one split follow each other.
        """

    def extra_features(self) -> dict[str, Any]:
        """Features beyond those that every set here has."""
        return {}

    @classmethod
    def variant_for(cls, manual_dir: Path | None, variant: Variant) -> Variant:
        """The variant to store a copy under; a set of many folders gives each its own name.

        Args:
          manual_dir: What the user named; None if nothing.
          variant: Chosen by name, or the default, with the user's crop settings.
        """
        del manual_dir
        return variant

    def metadata_of(self, source: sources.Source, records: Sequence[Record]) -> dict[str, Any]:
        """Further facts about this copy for the metadata, such as a rule's own counts.

        "summary" may hold lines that the closing summary prints.
        """
        del source, records
        return {}

    @property
    def label_names(self) -> tuple[str, ...]:
        """The stored classes in index order."""
        return self.builder_config.label_names or self.LABEL_NAMES

    def open(self, manual_dir: Path) -> Opened:
        """Opens and indexes the user's copy."""
        source = self.open_source(manual_dir)
        records, drops = self.index(source)
        self.opened = Opened(source, records, drops, has_marker(manual_dir, source))
        return self.opened

    def stamp(self) -> dict[str, Any]:
        """What the records depend on besides their source; a change asks for a rebuild."""
        config = self.builder_config
        stamp = {
            "version": str(self.version),
            "variant": config.name,
            "label_names": list(self.label_names),
            "crop": config.crop.to_json(),
            "lossless": config.lossless,
        }
        detector = Path(config.crop.detector).expanduser()
        if detector.is_file():
            stamp["detector_sha256"] = hashlib.sha256(detector.read_bytes()).hexdigest()
        return stamp

    def source_digest(self, opened: Opened) -> str:
        """Tells one copy of the set from another; what else lies beside it does not matter."""
        sizes = opened.source.sizes()
        known = {
            f"{one.id} {one.label} {one.subject} {one.split}": sizes.get(one.file, 0)
            for one in opened.records
        }
        return sources.digest(known)

    def _info(self) -> tfds.core.DatasetInfo:
        metadata = {
            "derived_labels": bool(self.DERIVED_LABELS),
            "label_rule": self.DERIVED_LABELS,
            "pictures": "face",  # stored cut: face_box lies in the picture that the user has
            "notes": self.NOTES,
            "variant": self.builder_config.name,
            "crop": self.builder_config.crop.to_json(),
            "lossless": self.builder_config.lossless,
            "base": self.builder_config.base,
            "described": self.builder_config.description,
        }
        encoding = "png" if self.builder_config.lossless else "jpeg"
        return self.stored_info(self.label_names, self.extra_features(), metadata, encoding)

    def generate(self, manual_dir: Path | None) -> Mapping[str, stored.Pairs]:
        """See `StoredBuilder`; pictures are cropped as they are asked for."""
        assert manual_dir is not None  # every set of this kind has MANUAL_DOWNLOAD_INSTRUCTIONS
        opened = self.opened or self.open(manual_dir)
        self._drops: list[crops.Drop] = list(opened.drops)
        self._unreadable: list[str] = []
        self._is_marked = opened.stand_in
        by_split: dict[str, list[Record]] = collections.defaultdict(list)
        for record in opened.records:
            by_split[record.split].append(record)
        return {
            split: self._examples(opened.source, split, records)
            for split, records in by_split.items()
        }

    def _examples(
        self, source: sources.Source, split: str, records: Sequence[Record]
    ) -> stored.Pairs:
        """Entries and examples of one split; pictures that are of no use join the drops."""
        requests = (
            crops.Request(
                one.id, one.file, one.view_box, one.face_box, one.landmarks, one.pixels,
                self.DROPS_BLACK, self.builder_config.lossless,
            )
            for one in records
        )  # fmt: skip
        label = f"{self.name}: finding faces" + (f", {split}" * (split != protocols.STORED))
        used = 0
        with contextlib.closing(
            crops.crop_all(source, requests, self.builder_config.crop)
        ) as outcomes:
            tracked = console.track(outcomes, len(records), label)
            for record, outcome in zip(records, tracked, strict=True):
                if isinstance(outcome, crops.Drop):
                    self._drop(outcome, source)
                    continue
                used += 1
                self._is_marked |= outcome.stand_in
                yield _entry(record, outcome), _example(record, outcome)
        if not used:
            raise errors.UserError(
                f"expected pictures in {source.path} (split {split}), found none that can be used: "
                f"{some([drop.id for drop in self._drops])}. Get this copy again."
            )

    def _drop(self, drop: crops.Drop, source: sources.Source) -> None:
        self._drops.append(drop)
        if drop.reason == crops.UNREADABLE:
            self._unreadable.append(f"{drop.file} ({drop.detail})")
        if len(self._unreadable) > self.MAX_UNREADABLE:
            raise errors.UserError(
                f"expected whole pictures in {source.path}, found more than {self.MAX_UNREADABLE} "
                f"that cannot be read: {some(self._unreadable)}. Get this copy again."
            )

    def finish(self, entries: Sequence[Entry]) -> None:
        """Leaves in the metadata, and in dropped.csv, what the summary and reports say."""
        opened = self.opened
        assert opened is not None  # `generate` opened it
        dropped = collections.defaultdict(list)
        for drop in self._drops:
            dropped[drop.reason].append(drop.id)
        records, drops = opened.records, self._drops
        whole = self.builder_config.expected or self.EXPECTED
        expected = whole if isinstance(whole, int) else dict(whole)
        self.info.metadata.update(
            stand_in=self._is_marked,
            synthetic=self._is_marked,
            source=str(opened.source.path),
            source_digest=self.source_digest(opened),
            expected=expected,
            found=len(records) + sum(drop.reason not in _SEEN for drop in drops),
            dropped=dict(dropped),
            misnamed={one.misnamed: one.id for one in records if one.misnamed},
            stamp=self.stamp(),
            **self.metadata_of(opened.source, records),
        )
        with open(Path(self.data_dir) / "dropped.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["id", "file", "reason", "detail"])
            table.writerows([drop.id, drop.file, drop.reason, drop.detail] for drop in drops)
        super().finish(entries)


def _entry(record: Record, crop: crops.Crop) -> Entry:
    return Entry(
        record.id, record.split, record.label, record.subject, record.stratum,
        crop.face.source, crop.look, crop.digest,
    )  # fmt: skip


def _example(record: Record, crop: crops.Crop) -> dict[str, Any]:
    return {
        "image": io.BytesIO(crop.encoded),
        "label": record.label,
        "id": record.id,
        "subject": record.subject,
        "face_box": np.array(crop.face.box, np.int32),
        "face_source": crop.face.source,
        "landmarks": crop.landmarks,
        **record.extras,
    }


def has_marker(manual_dir: Path, source: sources.Source) -> bool:
    """Whether a copy is a stand-in by the file that says so, in it or beside its archive."""
    beside = manual_dir if manual_dir.is_dir() else manual_dir.parent
    return (beside / STAND_IN_FILE).is_file() or any(
        PurePosixPath(name).name == STAND_IN_FILE for name in source.sizes()
    )


def drop_copies(
    source: sources.Source, files: Sequence[str], id_of: Callable[[str], str]
) -> tuple[dict[str, str], list[crops.Drop]]:
    """Each picture's first file by id, and the further copies.

    Raises:
      errors.UserError: Two files of one id that differ in size.
    """
    sizes = source.sizes()
    first: dict[str, str] = {}
    drops = []
    for file in files:
        one = id_of(file)
        if one not in first:
            first[one] = file
        elif sizes[file] == sizes[first[one]]:
            drops.append(crops.Drop(one, file, DUPLICATE, first[one]))
        else:
            raise errors.UserError(
                f"expected one picture {one} in {source.path}, found two that differ: "
                f"{first[one]} and {file}. Remove the wrong one."
            )
    return first, drops


def what_is_there(manual_dir: Path) -> str:
    """The content of a folder in a few words, for a message."""
    if manual_dir.is_file():
        return "an archive without any of them"
    if not manual_dir.exists():
        return "no such folder"
    entries = sorted(one.name for one in manual_dir.iterdir())
    return some(entries) if entries else "an empty folder"


def some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
