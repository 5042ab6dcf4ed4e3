"""TFDS builder of rendered faces with complete ground truth.

The config `demo` reads the archives that ship with the package. The others are rendered
on demand into a folder beside the prepared data; an interrupted rendering resumes.
"""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import hashing

from fer_jax.faces.decode import decode
from tfds_builders import duplicates, index, protocols, stored
from tfds_builders.synthetic_faces import fixture, splits
from tfds_builders.synthface import ACTION_UNITS, archive, sets
from tfds_builders.synthface.expression import to_vector
from tfds_builders.synthface.spec import RENDERER, Spec

SHIPPED = "demo"
CACHE = "synthetic_faces_rendered"  # folder in data_dir

_DESCRIPTIONS = {
    "demo": "7 expressions, one image each from one of 3 cameras, 64 px; ships with fer_jax.",
    "demo_128": "The people and images of `demo` at 128 px.",
    "kdef_like": "As KDEF: 7 expressions, 5 cameras, 2 sessions.",
    "rafd_like": "As RaFD: 8 expressions, 3 gaze directions, 5 cameras.",
    "wild": "In the wild: 7 expressions, any light, camera and angle up to 60 degrees.",
}
# FACS writes two digits: "AU2L" is AU02L, as in the other sets.
_UNITS = tuple(re.sub(r"AU(\d)(?!\d)", r"AU0\1", unit) for unit in ACTION_UNITS)
_NOTES = (
    "rendered people; a network trained only on these classifies real posed faces poorly, and "
    "real faces in the wild barely above chance"
)


class Builder(stored.StoredBuilder):
    """Synthetic faces; each split has other people, rendered from another seed."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "2.0.0": "An index beside the records; landmarks.",
        "1.0.0": "First release.",
    }
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "subject": protocols.Protocol(
            "subject",
            "Different people in train, validation and test, from different seeds.",
            (),  # the config's classes: only some configs have contempt
            protocols.stored,
        )
    }
    UNITS = _UNITS
    UNIT_SHOWN = 0.2  # of full strength; unrelated units have a standard deviation of 0.06
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name=name, description=_DESCRIPTIONS[name])
        for name in splits.CONFIGS
    ]

    def __init__(
        self,
        *,
        config: str | tfds.core.BuilderConfig | None = None,
        people: Sequence[int] | None = None,
        size: int | None = None,
        workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Creates the builder; `download_and_prepare` renders.

        Args:
          config: one of `splits.CONFIGS`; None is `demo`.
          people: number of people in train, validation and test; overrides the config.
          size: side of the images in pixels; overrides the config.
          workers: number of rendering processes; None is one per core.
          **kwargs: those of `tfds.core.GeneratorBasedBuilder`, such as `data_dir`.
        """
        arguments = {"config": config, "people": people, "size": size, "workers": workers}
        base = getattr(config, "name", config) or SHIPPED
        if people or size:
            # Another config name means another folder of prepared data.
            extent = splits.CONFIGS[base]
            people, size = tuple(people or extent.people), size or extent.size
            name = f"{base}_{size}px_{'_'.join(map(str, people))}"
            config = tfds.core.BuilderConfig(name=name, description=_DESCRIPTIONS[base])
        self._base, self._people, self._size, self._workers = base, people, size, workers
        super().__init__(config=config, **kwargs)
        self._original_state |= arguments  # TFDS pickles these

    @property
    def specs(self) -> dict[str, Spec]:
        """Split name to render spec."""
        return splits.specs(self._base, self._people, self._size)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes in index order."""
        return tuple(self.specs["train"].expressions)

    def stamp(self) -> dict[str, Any]:
        """What the records depend on; a changed stamp requires a rebuild."""
        return {split: f"{spec.digest} x {spec.subjects}" for split, spec in self.specs.items()}

    def _info(self) -> tfds.core.DatasetInfo:
        scalar = tfds.features.Scalar(dtype=np.float32)
        features = {
            "yaw": scalar,
            "action_units": tfds.features.Tensor(shape=(len(ACTION_UNITS),), dtype=np.float32),
            "gaze": tfds.features.Text(),
            "session": tfds.features.Scalar(dtype=np.int32),
            "sex": scalar,
            "age": scalar,
            "skin": scalar,
        }
        metadata = {
            "derived_labels": False,
            "stand_in": False,
            "synthetic": True,
            "notes": _NOTES,
            "pictures": "whole",  # not cropped: face_box is in pixels of the stored image
            "variant": self.builder_config.name,
            "action_units": list(ACTION_UNITS),
            "renderer": RENDERER,
            "stamp": self.stamp(),
        }
        return self.stored_info(self.label_names, features, metadata)

    def generate(self, manual_dir: pathlib.Path | None) -> Mapping[str, stored.Pairs]:
        """See `StoredBuilder`."""
        del manual_dir  # needs no files of the user
        return {split: self._examples(split) for split in self.specs}

    def _examples(self, split: str) -> stored.Pairs:
        # TFDS's order of version 1.0.0, so that published figures of the demo stay reproducible.
        hasher = hashing.Hasher(split)
        records = sorted(self._records(split), key=lambda one: hasher.hash_key(one.truth["id"]))
        for record in records:
            yield _entry(record, split), _example(record)

    def _records(self, split: str) -> Iterable[archive.Record]:
        if self.builder_config.name == SHIPPED:
            return fixture.read(split)
        spec = self.specs[split]
        cache = pathlib.Path(os.fspath(self._data_dir_root)) / CACHE
        return sets.read(spec, sets.generate(spec, cache, self._workers))


def _entry(record: archive.Record, split: str) -> index.Entry:
    truth = record.truth
    return index.Entry(
        id=truth["id"],
        split=split,
        label=truth["expression"],
        subject=truth["subject"],
        stratum="",
        face="truth",
        look=duplicates.look(decode(record.jpeg)),
        digest=hashlib.sha256(record.jpeg).hexdigest()[:16],
    )


def _example(record: archive.Record) -> dict[str, Any]:
    """The features of a record."""
    truth = record.truth
    return {
        "image": io.BytesIO(record.jpeg),
        "label": truth["expression"],
        "id": truth["id"],
        "subject": truth["subject"],
        "face_box": np.array(truth["face_box"], np.int32),
        "face_source": "truth",
        "landmarks": np.full((5, 2), np.nan, np.float32),
        "yaw": truth["yaw"],
        "action_units": to_vector(truth["action_units"]),
        "gaze": truth["gaze"],
        "session": truth["session"],
        "sex": truth["sex"],
        "age": truth["age"],
        "skin": truth["skin"],
    }
