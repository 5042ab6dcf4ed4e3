"""RAF-DB, basic part: seven emotions in the wild, its crops, and its official test.

15,339 pictures (Li, Deng and Du, 2017). What is common to all sets that the user brings
is in tfds_builders/manual.py; the owners' form of a copy is basic.py, copies sorted into
folders are folders.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import labels
from fer_jax.faces import detect as faces
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.raf_db import basic, folders, names

_ARCHIVES = r"(.*raf.*|basic|dataset|archive.*|aligned|original|image|annotation|manual)\.zip"
_KEEP = "keep"

HOW_TO_GET = copies.how_to_get(
    "raf_db",
    """\
To get RAF-DB: ask for it at http://www.whdeld.cn/raf/model1.html (researchers only); you are
sent the basic part: EmoLabel, Image and Annotation. Put it, packed or unpacked, into a folder
and name that:""",
)


class Builder(manual.ManualBuilder):
    """RAF-DB with its official test (`official`, the default), which is the paper's too."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="aligned",
            description="The crops of 100 x 100 that the set ships, as they are.",
            crop=faces.FaceCrop(method=_KEEP),
        ),
        manual.Variant(
            name="face112",
            description="From the originals: aligned by five landmarks, 112 x 112.",
            crop=faces.FaceCrop(method="align", longest_side=112),
        ),
        manual.Variant(
            name="face224",
            description="From the originals: aligned by five landmarks, 224 x 224.",
            crop=faces.FaceCrop(method="align", longest_side=224),
        ),
        manual.Variant(
            name="folder_raf",
            description="A copy in numbered folders, in the order of RAF-DB's label list.",
            crop=faces.FaceCrop(method=_KEEP),
        ),
        manual.Variant(
            name="folder_affectnet",
            description="A copy in numbered folders, in the order of AffectNet.",
            crop=faces.FaceCrop(method=_KEEP),
        ),
    ]
    LABEL_NAMES: ClassVar[tuple[str, ...]] = labels.RAF_DB
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "official": protocols.Protocol(
            name="official",
            description="The official test (3,068); validation is a tenth of each class of train.",
            label_names=labels.RAF_DB,
            assign=protocols.official,
        ),
        "paper": protocols.Protocol(
            name="paper",
            description="The paper's test, which is the official one.",
            label_names=labels.RAF_DB,
            assign=protocols.official,
        ),
    }
    GROUP: ClassVar[str] = ""  # nobody knows who is in the pictures
    EXPECTED: ClassVar[Mapping[str, int]] = {
        split: sum(counts.values()) for split, counts in names.COUNTS.items()
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """What the set's owners had said of each face; "unknown" where a copy says nothing."""
        return {
            "gender": tfds.features.ClassLabel(names=[*names.GENDERS, names.UNKNOWN]),
            "race": tfds.features.ClassLabel(names=[*names.RACES, names.UNKNOWN]),
            "age": tfds.features.ClassLabel(names=[*names.AGES, names.UNKNOWN]),
        }

    def open_source(self, manual_dir: Path) -> sources.Source:
        """The basic part or a copy in folders, in or below `manual_dir`, packed or not."""
        return copies.open_copy(manual_dir, _ARCHIVES, self._lacks, HOW_TO_GET, in_parts=True)

    def index(self, source: sources.Source) -> tuple[list[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`; the label list says all where there is one."""
        if _has_list(source.sizes()):
            return basic.index(source, aligned=self._keeps)
        return folders.index(source, self._variant)

    def metadata_of(self, source: sources.Source, records: Any) -> dict[str, Any]:
        """Which listed pictures are not there, and for how many the attributes are unknown."""
        if not _has_list(source.sizes()):
            return {}
        missing = basic.missing(source, aligned=self._keeps)
        bare = sum(one.extras["gender"] == names.UNKNOWN for one in records)
        lines = []
        if missing:
            lines.append(f"{len(missing)} listed but not there: {manual.some(missing)}")
        if bare:
            lines.append(f"{bare:,} without a readable attribute file: gender, race, age unknown")
        return {"missing": missing, "without_attributes": bare, "summary": lines}

    @property
    def _variant(self) -> str:
        config = self.builder_config
        return config.base or config.name

    @property
    def _keeps(self) -> bool:
        """Whether the shipped crops are meant; everything else is cut from the originals."""
        return self.builder_config.crop.method == _KEEP

    def _lacks(self, source: sources.Source) -> str:
        if _has_list(source.sizes()):
            lacking = _LACKS_CROPS if self._keeps else _LACKS_ORIGINALS
            return "" if basic.pictures(source, aligned=self._keeps) else lacking
        if folders.pictures(source):
            return "" if self._keeps else _LACKS_ORIGINALS
        return _LACKS_ALL


_LACKS_ALL = (
    f"RAF-DB's basic part (EmoLabel/{names.LABEL_LIST}, Image/aligned ...) or train/ and test/ "
    "with a folder for each class"
)
_LACKS_CROPS = (
    "the shipped crops beside the label list (Image/aligned/train_00001_aligned.jpg ... or "
    "Image/aligned.zip; --config face112 cuts them from Image/original instead)"
)
_LACKS_ORIGINALS = (
    "the original pictures, which face112 and face224 are cut from (Image/original/"
    "train_00001.jpg ... or Image/original.zip; --config aligned takes the shipped crops)"
)


def _has_list(sizes: Mapping[str, int]) -> bool:
    return any(names.is_label_list(file) for file in sizes)
