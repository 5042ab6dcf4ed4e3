"""The base of every data set that the user brings, because nobody may redistribute it.

A builder names what it accepts (`open_source`), reads names into records (`index`) and
says who goes where (`split`); finding faces, counting what was dropped, the metadata
and writing are done here, once. See kdef/ for the smallest example.
"""

from __future__ import annotations

import abc
import collections
import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors
from fer_jax.data import faces
from tfds_builders import console, crops, protocols, sources

MAX_UNREADABLE = 20  # more is a broken copy, not a broken picture
_NAMED = 5  # names in an error message


@dataclasses.dataclass(frozen=True)
class Record:
    """One usable-looking picture of a set, known from its name alone.

    Attributes:
      id: Unique in the set, the same in every copy of it.
      file: Its name in the source.
      label: One of the emotions of `fer_jax.labels`.
      subject: The person, video or movie that must not be in two splits.
      view_box: Where faces lie in pictures of this camera view, if that is known.
      misnamed: What this copy wrongly calls it, if it does.
      extras: Values of the set's own features.
    """

    id: str
    file: str
    label: str
    subject: str
    view_box: faces.RelativeBox | None = None
    misnamed: str = ""
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class ManualConfig(tfds.core.BuilderConfig):
    """A protocol of a set, and how its faces are cut.

    Attributes:
      label_names: The classes, in index order; pictures of others are not of this protocol.
      seed: Decides the splits.
      crop: How faces are cut out.
    """

    label_names: tuple[str, ...] = ()
    seed: int = 0
    crop: crops.CropSettings = dataclasses.field(default_factory=crops.CropSettings)


class ManualBuilder(tfds.core.GeneratorBasedBuilder):
    """Shared work of the builders of sets that the user brings.

    A subclass sets `VERSION`, `BUILDER_CONFIGS` (of `ManualConfig`), `EXPECTED` (pictures
    in a whole copy), `GROUP` and `NOTES` by protocol, and defines `open_source`, `index`
    and `split`.
    """

    EXPECTED: ClassVar[int]
    GROUP: ClassVar[str] = "subject"
    NOTES: ClassVar[Mapping[str, str]] = {}

    @abc.abstractmethod
    def open_source(self, manual_dir: Path) -> sources.Source:
        """The user's copy in or below `manual_dir`, or a `UserError` that helps to get it."""

    @abc.abstractmethod
    def index(self, source: sources.Source) -> tuple[list[Record], list[crops.Drop]]:
        """All pictures of the set by name, and those that are never used; reads no picture."""

    @abc.abstractmethod
    def split(self, records: Sequence[Record]) -> dict[str, str]:
        """Record id to split name, for the usable records of this protocol's classes."""

    def extra_features(self) -> dict[str, Any]:
        """Features beyond those that every set here has."""
        return {}

    def stamp(self) -> dict[str, Any]:
        """What the records depend on besides their source; a change asks for a rebuild."""
        config = self.builder_config
        return {
            "version": str(self.version),
            "protocol": config.name,
            "seed": config.seed,
            "crop": dataclasses.asdict(config.crop),
        }

    def source_digest(self, source: sources.Source) -> str:
        """Tells one copy of the set from another; what else lies beside it does not matter."""
        sizes = source.sizes()
        return sources.digest({one.id: sizes[one.file] for one in self.index(source)[0]})

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=list(config.label_names)),
            "id": tfds.features.Text(),
            "subject": tfds.features.Text(),
            "face_box": tfds.features.Tensor(shape=(4,), dtype=np.int32),
            "face_source": tfds.features.Text(),
        }
        metadata = tfds.core.MetadataDict(
            label_names=list(config.label_names),
            protocol=config.name,
            derived_labels=False,
            group=self.GROUP,
            pictures="face",  # stored cut: face_box lies in the picture that the user has
            notes=self.NOTES.get(config.name, ""),
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features | self.extra_features()),
            supervised_keys=("image", "label"),
            metadata=metadata,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        source = self.open_source(Path(dl_manager.manual_dir))
        records, drops = self.index(source)
        cropped = self._crop(source, records, drops)
        usable = [
            record
            for record in records
            if record.id in cropped and record.label in self.builder_config.label_names
        ]
        assigned = self.split(usable)
        self._describe(source, records, drops, cropped, usable, assigned)
        names = (protocols.TRAIN, protocols.VALIDATION, protocols.TEST)
        by_split = {
            name: [record for record in usable if assigned[record.id] == name] for name in names
        }
        self._refuse_empty(by_split)
        return {name: self._generate_examples(some, cropped) for name, some in by_split.items()}

    def _generate_examples(
        self, records: Sequence[Record], cropped: Mapping[str, crops.Crop]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in records:
            crop = cropped[record.id]
            yield (
                record.id,
                {
                    "image": io.BytesIO(crop.jpeg),
                    "label": record.label,
                    "id": record.id,
                    "subject": record.subject,
                    "face_box": np.array(crop.face.box, np.int32),
                    "face_source": crop.face.source,
                    **record.extras,
                },
            )

    def _crop(
        self, source: sources.Source, records: Sequence[Record], drops: list[crops.Drop]
    ) -> dict[str, crops.Crop]:
        """Crops by record id; pictures that turn out to be of no use join `drops`.

        All crops are held in memory: splits are drawn among the usable pictures, which
        are known at the end (KDEF: 100 MB).
        """
        requests = [crops.Request(one.id, one.file, one.view_box) for one in records]
        outcomes = crops.crop_all(source, requests, self.builder_config.crop)
        cropped, unreadable = {}, []
        for outcome in console.track(outcomes, len(requests), f"{self.name}: finding faces"):
            if isinstance(outcome, crops.Crop):
                cropped[outcome.id] = outcome
                continue
            drops.append(outcome)
            if outcome.reason == crops.UNREADABLE:
                unreadable.append(f"{outcome.file} ({outcome.detail})")
            if len(unreadable) > MAX_UNREADABLE:
                raise errors.UserError(
                    f"expected whole pictures in {source.path}, found more than {MAX_UNREADABLE} "
                    f"that cannot be read: {some(unreadable)}. Get this copy again."
                )
        return cropped

    def _describe(
        self,
        source: sources.Source,
        records: Sequence[Record],
        drops: Sequence[crops.Drop],
        cropped: Mapping[str, crops.Crop],
        usable: Sequence[Record],
        assigned: Mapping[str, str],
    ) -> None:
        """Leaves in the metadata, and in dropped.csv, what the summary and reports say."""
        dropped = collections.defaultdict(list)
        for drop in drops:
            dropped[drop.reason].append(drop.id)
        left_out = collections.Counter(
            one.label
            for one in records
            if one.id in cropped and one.label not in self.builder_config.label_names
        )
        stand_in = any(crop.stand_in for crop in cropped.values())
        groups: dict[str, list[str]] = collections.defaultdict(list)
        for record in usable:
            groups[assigned[record.id]].append(record.subject)
        self.info.metadata.update(
            stand_in=stand_in,
            synthetic=stand_in,
            leaks=protocols.shared_groups(groups),
            source=str(source.path),
            source_digest=self.source_digest(source),
            expected=self.EXPECTED,
            found=len(records) + sum(drop.reason not in _SEEN for drop in drops),
            dropped=dict(dropped),
            left_out=dict(left_out),
            misnamed={one.misnamed: one.id for one in records if one.misnamed},
            stamp=self.stamp(),
        )
        self._write_dropped(drops)

    def _write_dropped(self, drops: Sequence[crops.Drop]) -> None:
        with open(Path(self.data_dir) / "dropped.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["id", "file", "reason", "detail"])
            table.writerows([drop.id, drop.file, drop.reason, drop.detail] for drop in drops)

    def _refuse_empty(self, by_split: Mapping[str, Sequence[Record]]) -> None:
        for name, some in by_split.items():
            missing = set(self.builder_config.label_names) - {record.label for record in some}
            if missing:
                raise errors.UserError(
                    f"expected pictures of every class in every split of {self.name}, found none "
                    f"of {', '.join(sorted(missing))} in {name}. The copy is incomplete."
                )


_SEEN = frozenset({crops.BLACK, crops.UNREADABLE})  # drops that were records at first


def some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
