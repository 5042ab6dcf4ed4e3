"""TFDS builder of RAF-DB: images from the web, seven emotions or eleven pairs of emotions.

Li, Deng and Du, 2017. basic.py indexes the original layout of both parts, folders.py copies of the
basic part in class folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import labels
from fer_jax.faces.crop import FaceCrop
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.raf_db import basic, folders, names

_ARCHIVES = (
    r"(.*raf.*|basic|compound|dataset|archive.*|aligned|original|image|annotation|manual)\.zip"
)
_KEEP = "keep"

HOW_TO_GET = copies.how_to_get(
    "raf_db",
    """\
To get RAF-DB: request it at http://www.whdeld.cn/raf/model1.html (researchers only). You
receive the basic part: EmoLabel, Image and Annotation; and the compound part, for --config
compound, whose folder must keep its name, compound. Put them, packed or unpacked, into a folder and
run:""",
)


class Builder(manual.ManualBuilder):
    """RAF-DB with its official test split, which is also the paper's."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="aligned",
            description="The shipped crops of 100 x 100 pixels, unchanged.",
            crop=FaceCrop(method=_KEEP),
        ),
        manual.Variant(
            name="compound",
            description="The shipped crops of the compound part: eleven pairs of emotions.",
            crop=FaceCrop(method=_KEEP),
            label_names=labels.RAF_DB_COMPOUND,
            expected=names.COMPOUND_IMAGES,
        ),
        manual.Variant(
            name="face112",
            description="Crops of the originals, aligned by five landmarks, 112 x 112.",
            crop=FaceCrop(method="align", longest_side=112),
        ),
        manual.Variant(
            name="face224",
            description="Crops of the originals, aligned by five landmarks, 224 x 224.",
            crop=FaceCrop(method="align", longest_side=224),
        ),
        manual.Variant(
            name="folder_raf",
            description="A copy in numbered class folders, in the order of RAF-DB's label list.",
            crop=FaceCrop(method=_KEEP),
        ),
        manual.Variant(
            name="folder_affectnet",
            description="A copy in numbered class folders, in AffectNet's order.",
            crop=FaceCrop(method=_KEEP),
        ),
    ]
    LABEL_NAMES: ClassVar[tuple[str, ...]] = labels.RAF_DB
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "official": protocols.Protocol(
            name="official",
            description="Test: the official one (3,068; compound part: 792). Validation: a tenth "
            "of each class of train.",
            label_names=(),
            assign=protocols.official,
        ),
        "paper": protocols.Protocol(
            name="paper",
            description="As `official`, which is also the paper's split.",
            label_names=(),
            assign=protocols.official,
        ),
    }
    GROUP: ClassVar[str] = ""  # people are not identified
    EXPECTED: ClassVar[Mapping[str, int]] = {
        split: sum(counts.values()) for split, counts in names.COUNTS.items()
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """Gender, race and age as annotated by the set's owners; "unknown" if missing."""
        return {
            "gender": tfds.features.ClassLabel(names=[*names.GENDERS, names.UNKNOWN]),
            "race": tfds.features.ClassLabel(names=[*names.RACES, names.UNKNOWN]),
            "age": tfds.features.ClassLabel(names=[*names.AGES, names.UNKNOWN]),
        }

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens the basic part or a copy in class folders, in or below `manual_dir`."""
        return copies.open_copy(manual_dir, _ARCHIVES, self._lacks, HOW_TO_GET, in_parts=True)

    def index(self, source: sources.Source) -> tuple[list[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`. A label list takes precedence over class folders."""
        if self._has_list(source):
            return basic.index(source, self._part, aligned=self._uses_shipped_crops)
        return folders.index(source, self._variant)

    def metadata_of(self, source: sources.Source, records: Any) -> dict[str, Any]:
        """The listed images that are missing, and the number without attributes."""
        if not self._has_list(source):
            return {}
        missing = basic.missing(source, self._part, aligned=self._uses_shipped_crops)
        unknown = sum(record.extras["gender"] == names.UNKNOWN for record in records)
        lines = []
        if missing:
            lines.append(f"{len(missing)} listed but missing: {manual.some(missing)}")
        if unknown:
            lines.append(f"{unknown:,} without readable attributes: gender, race, age unknown")
        return {"missing": missing, "without_attributes": unknown, "summary": lines}

    @property
    def _variant(self) -> str:
        config = self.builder_config
        return config.base or config.name

    @property
    def _part(self) -> names.Part:
        return names.COMPOUND if self._variant == "compound" else names.BASIC

    def _has_list(self, source: sources.Source) -> bool:
        return any(names.is_label_list(file, self._part) for file in source.sizes())

    @property
    def _uses_shipped_crops(self) -> bool:
        """Whether to store the shipped crops, instead of crops of the originals."""
        return self.builder_config.crop.method == _KEEP

    def _lacks(self, source: sources.Source) -> str:
        shipped = self._uses_shipped_crops
        if self._has_list(source):
            lacking = _LACKS_CROPS if shipped else _LACKS_ORIGINALS
            return "" if basic.images(source, self._part, aligned=shipped) else lacking
        if self._part == names.COMPOUND:
            return _LACKS_COMPOUND
        if folders.locate(source):
            return "" if shipped else _LACKS_ORIGINALS
        return _LACKS_ALL


_LACKS_ALL = (
    f"RAF-DB's basic part (EmoLabel/{names.LABEL_LIST}, Image/aligned ...) or train/ and test/ "
    "with a folder for each class, or with train_labels.csv and test_labels.csv"
)
_LACKS_CROPS = (
    "the shipped crops beside the label list (Image/aligned/train_00001_aligned.jpg ... or "
    "Image/aligned.zip; --config face112 crops Image/original instead)"
)
_LACKS_ORIGINALS = (
    "the original images, which face112 and face224 crop (Image/original/train_00001.jpg ... or "
    "Image/original.zip; --config aligned uses the shipped crops)"
)
_LACKS_COMPOUND = (
    f"RAF-DB's compound part (compound/EmoLabel/{names.LABEL_LIST}, compound/Image/aligned ...); "
    "name the folder that contains compound"
)
