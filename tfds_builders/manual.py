"""Base class for the sets that users bring because nobody may redistribute them.

A builder opens the user's copy (`open_source`) and turns file names and label files into
records (`index`); its protocols define the splits. Cropping faces, counting dropped images,
metadata and writing are shared here. See kdef/ for the smallest example.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import csv
import dataclasses
import hashlib
import io
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import buckets, errors
from fer_jax.executor import Executor
from fer_jax.faces.crop import FaceCrop
from fer_jax.monitor import console
from fer_jax.printable import csv_text, printable
from tfds_builders import crops, protocols, sources, stored, unused
from tfds_builders.index import Entry
from tfds_builders.journal import Journal
from tfds_builders.record import Record as Record  # builders write manual.Record
from tfds_builders.stand_in_mark import STAND_IN_FILE

MAX_UNREADABLE = 20  # more means a damaged copy, not a few damaged images
DUPLICATE = "a second copy of the same image"
NO_TEXT = "the name is not UTF-8"

_LISTED = 5  # names in an error message
_DROPPED_RECORDS = frozenset({crops.BLACK, crops.UNREADABLE})  # reasons found when cropping


@dataclasses.dataclass(eq=False)
class Variant(tfds.core.BuilderConfig):
    """How the faces of a set are cropped: a TFDS config. Protocols share its records.

    Attributes:
      crop: how faces are cropped.
      label_names: the stored classes in index order, if they differ from the set's.
      base: the variant that this one was made from, if the user changed `crop`.
      lossless: whether images that are not JPEGs are stored as PNG: JPEG compression changes an
        image of 48 pixels visibly.
      expected: as `ManualBuilder.EXPECTED`, if this variant has fewer images than the set.
    """

    crop: FaceCrop = dataclasses.field(default_factory=FaceCrop)
    label_names: tuple[str, ...] = ()
    base: str = ""
    lossless: bool = False
    expected: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A user's copy after its file names and label files are read."""

    source: sources.Source
    records: Sequence[Record]
    drops: Sequence[crops.Drop]
    stand_in: bool
    unused: Mapping[str, Mapping[str, int]]  # see `unused.count`


class ManualBuilder(stored.StoredBuilder):
    """Shared work of the builders of sets that users bring.

    A subclass sets `VERSION`, `BUILDER_CONFIGS` (of `Variant`; the first is the default),
    `LABEL_NAMES`, `PROTOCOLS` (the first is the default) and `EXPECTED`, and defines
    `open_source` and `index`.
    """

    LABEL_NAMES: ClassVar[tuple[str, ...]]
    EXPECTED: ClassVar[int | Mapping[str, int]]
    """Number of images in a complete copy: in all, or by stored split."""
    DERIVED_LABELS: ClassVar[str] = ""
    """The rule that labels are derived by, such as "facs_v1"; "" if people assigned them."""
    NOTES: ClassVar[str] = ""
    """A note for every report on this set."""
    DROPS_BLACK: ClassVar[bool] = False
    """Whether black images are dropped."""
    MAX_UNREADABLE: ClassVar[int] = MAX_UNREADABLE
    """The preparation stops at more unreadable images."""

    executor: Executor | None = None
    """Who crops the faces; None for threads of this process."""
    journal: Journal | None = None
    """The crops that are made already; None to keep none."""
    opened: Opened | None = None
    """Result of the last `open`, so that a preparation reads the copy once."""

    @abc.abstractmethod
    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens the user's copy in or below `manual_dir`.

        Raises:
          errors.UserError: No complete copy; the message says how to get the set.
        """

    @abc.abstractmethod
    def index(self, source: sources.Source) -> tuple[Sequence[Record], Sequence[crops.Drop]]:
        """Lists the images of the set, and the dropped ones; reads no image.

        Labels are among the stored classes. Records of a split are consecutive.
        """

    def extra_features(self) -> dict[str, Any]:
        """Features in addition to those that every set has."""
        return {}

    @classmethod
    def variant_for(cls, manual_dir: Path | None, variant: Variant) -> Variant:
        """Returns the variant under which a copy is stored; image_folder names one per folder.

        Args:
          manual_dir: the user's copy; None if not given.
          variant: the chosen or default variant, with the user's crop settings.
        """
        del manual_dir
        return variant

    def metadata_of(self, source: sources.Source, records: Sequence[Record]) -> dict[str, Any]:
        """More metadata on this copy, such as the counts of a label rule.

        "summary" may be a list of lines for the printed summary.
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
        used = source.touched | {one.file for one in records} | {one.file for one in drops}
        rest = unused.count(source, used)
        # Names become ids, which are stored as UTF-8.
        odd = [one for one in records if not sources.is_text(one.file)]
        records = [one for one in records if sources.is_text(one.file)]
        drops = [*drops, *(crops.Drop(one.id, one.file, NO_TEXT, "") for one in odd)]
        drops = [
            dataclasses.replace(one, id=printable(one.id), file=printable(one.file))
            for one in drops
        ]
        self.opened = Opened(source, records, drops, _has_stand_in_file(manual_dir, source), rest)
        return self.opened

    def stamp(self) -> dict[str, Any]:
        """What the records depend on besides their source; any change requires a rebuild."""
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
        """Identifies a copy of the set; files that are not the set's do not count."""
        sizes = opened.source.sizes()
        known = {
            f"{record.id} {record.label} {record.subject} {record.split}": sizes.get(record.file, 0)
            for record in opened.records
        }
        return sources.digest(known)

    def _info(self) -> tfds.core.DatasetInfo:
        metadata = {
            "derived_labels": bool(self.DERIVED_LABELS),
            "label_rule": self.DERIVED_LABELS,
            "pictures": "face",  # stored as crops; face_box refers to the user's image
            "notes": self.NOTES,
            "variant": self.builder_config.name,
            "crop": self.builder_config.crop.to_json(),
            "lossless": self.builder_config.lossless,
            "base": self.builder_config.base,
            "described": self.builder_config.description,
        }
        encoding = "png" if self.builder_config.lossless else "jpeg"
        return self.stored_info(self.label_names, self.extra_features(), metadata, encoding)

    def _split_generators(self, dl_manager: Any) -> Mapping[str, stored.Pairs]:
        # TFDS accepts only a folder as manual_dir, `open` an archive too.
        return self.generate(None) if self.opened else super()._split_generators(dl_manager)

    def generate(self, manual_dir: Path | None) -> Mapping[str, stored.Pairs]:
        """See `StoredBuilder`; crops lazily."""
        opened = self.opened
        if opened is None:
            assert manual_dir is not None  # every such set has MANUAL_DOWNLOAD_INSTRUCTIONS
            opened = self.open(manual_dir)
        self._drops: list[crops.Drop] = list(opened.drops)
        self._unreadable: list[str] = []
        self._is_stand_in = opened.stand_in
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
        """Entries and examples of one split; collects dropped images."""
        requests = (
            crops.Request(
                record.id, record.file, record.view_box, record.face_box, record.landmarks,
                record.pixels,
                self.DROPS_BLACK, self.builder_config.lossless,
            )
            for record in records
        )  # fmt: skip
        label = f"{self.name}: finding faces" + (f", {split}" * (split != protocols.STORED))
        used = 0

        def crop(rest: Iterable[crops.Request]) -> Generator[crops.Outcome, None, None]:
            return crops.crop_all(source, rest, self.builder_config.crop, self.executor)

        made = self.journal.outcomes(requests, crop) if self.journal else crop(requests)
        with contextlib.closing(made) as outcomes:
            tracked = console.track(outcomes, len(records), label)
            for record, outcome in zip(records, tracked, strict=True):
                if isinstance(outcome, crops.Drop):
                    self._drop(outcome, source)
                    continue
                used += 1
                self._is_stand_in |= outcome.stand_in
                yield _entry(record, outcome), _example(record, outcome)
        if not used:
            raise errors.UserError(
                f"expected images in {source.path} (split {split}), found none that can be used: "
                f"{some([drop.id for drop in self._drops])}. Get this copy again."
            )

    def _drop(self, drop: crops.Drop, source: sources.Source) -> None:
        self._drops.append(drop)
        if drop.reason == crops.UNREADABLE:
            self._unreadable.append(f"{drop.file} ({drop.detail})")
        if len(self._unreadable) > self.MAX_UNREADABLE:
            raise errors.UserError(
                f"expected readable images in {source.path}, found more than "
                f"{self.MAX_UNREADABLE} that cannot be read: {some(self._unreadable)}. Get this "
                "copy again."
            )

    def finish(self, entries: Sequence[Entry]) -> None:
        """Adds the metadata on this copy and writes dropped.csv."""
        opened = self.opened
        assert opened is not None  # `generate` opened it
        dropped = collections.defaultdict(list)
        for drop in self._drops:
            dropped[drop.reason].append(drop.id)
        records, drops = opened.records, self._drops
        own = self.metadata_of(opened.source, records)
        own["summary"] = [*own.get("summary", []), *unused.describe(opened.unused)]
        expected = self.builder_config.expected or self.EXPECTED
        self.info.metadata.update(
            stand_in=self._is_stand_in,
            synthetic=self._is_stand_in,
            source=buckets.origin(opened.source.path),
            source_digest=self.source_digest(opened),
            expected=expected if isinstance(expected, int) else dict(expected),
            found=len(records) + sum(drop.reason not in _DROPPED_RECORDS for drop in drops),
            dropped=dict(dropped),
            misnamed={record.misnamed: record.id for record in records if record.misnamed},
            stamp=self.stamp(),
            unused=opened.unused,
            **own,
        )
        with open(Path(self.data_dir) / "dropped.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["id", "file", "reason", "detail"])
            table.writerows(
                [csv_text(drop.id), csv_text(drop.file), drop.reason, drop.detail] for drop in drops
            )
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


def _has_stand_in_file(manual_dir: Path, source: sources.Source) -> bool:
    """Whether `STAND_IN_FILE` is in a copy or beside its archive."""
    beside = manual_dir if manual_dir.is_dir() else manual_dir.parent
    return (beside / STAND_IN_FILE).is_file() or any(
        PurePosixPath(name).name == STAND_IN_FILE for name in source.sizes()
    )


def describe_folder(manual_dir: Path) -> str:
    """Describes the content of a folder or archive that is not a copy, for a message."""
    if manual_dir.is_file():
        if other := sources.other_archive(manual_dir):
            return f"a {other} archive, which cannot be read: unpack it and give the folder"
        if sources.ARCHIVE.fullmatch(manual_dir.name):
            return "an archive without any of them"
        return "a file that is not an archive (give its folder instead)"
    if not manual_dir.exists():
        return "no such folder"
    names = sources.FolderSource(manual_dir).sizes()
    packed = [name for name in names if not sources.is_hidden(name) and sources.other_suffix(name)]
    hint = f". Unpack {some(packed)} first: such archives cannot be read" if packed else ""
    entries = sorted(entry.name for entry in manual_dir.iterdir())
    return some(entries) + hint if entries else "an empty folder"


def some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
