"""TFDS builder of JAFFE: ten Japanese women, seven expressions, 213 images of 256 x 256 pixels.

Lyons et al., 1998. Splits and folds are by person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from fer_jax import errors, labels
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.jaffe import names

HOW_TO_GET = copies.how_to_get(
    "jaffe",
    """\
To get JAFFE: request it at https://zenodo.org/records/3451524 (researchers only, for
non-commercial use). You receive jaffedbase.zip. Put it, packed or unpacked, into a folder and
run:""",
)
_ARCHIVES = r".*jaffe.*\.(zip|tar|tgz|tar\.gz)"


class Builder(manual.ManualBuilder):
    """JAFFE, split by person."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(name="face", description="Faces detected and cropped."),
    ]
    LABEL_NAMES = labels.JAFFE
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "subject": protocols.Protocol(
            "subject",
            "Seven expressions; six people in train, two in validation, two in test.",
            labels.JAFFE,
            protocols.by_group,
            note="the test split has only two people: prefer the mean over fold1of10 to fold10of10",
        ),
    }
    EXPECTED = names.IMAGES
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens the images in or below `manual_dir`, which may be the archive itself."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`. An image with another name among JAFFE's is an error."""
        ids = {file: image_id for file in source.sizes() if (image_id := names.image_id(file))}
        known = {file: image_id for file, image_id in ids.items() if names.parse(image_id)}
        folders = {_folder(file) for file in known}
        unknown = [file for file in ids if file not in known and _folder(file) in folders]
        if unknown:
            raise errors.UserError(
                f"expected only JAFFE's file names in {source.path} (KA.AN1.39.tiff: person, "
                f"expression and repetition, number), found {manual.some(unknown)}. Move other "
                "images out of the folder."
            )
        pairs = [(image_id, file) for file, image_id in known.items()]
        first, drops = copies.first_by_id(source, pairs, names.priority)
        records = [_record(image_id, file) for image_id, file in first.items()]
        copies.check_classes(records, labels.JAFFE, source)
        return records, drops


def _lacks(source: sources.Source) -> str:
    ids = map(names.image_id, source.sizes())
    if any(image_id and names.parse(image_id) for image_id in ids):
        return ""
    return "jaffedbase.zip or its unpacked images (KA.AN1.39.tiff ...)"


def _record(image_id: str, file: str) -> manual.Record:
    parsed = names.parse(image_id)
    assert parsed is not None  # `index` has refused other names
    person, label = parsed
    return manual.Record(id=image_id, file=file, label=label, subject=person)


def _folder(file: str) -> str:
    return file.rpartition("/")[0]
