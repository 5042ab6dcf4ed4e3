"""TFDS builder of FER2013, from its csv or from class folders, with its three official splits.

35,887 gray face crops of 48 x 48 pixels (Goodfellow et al., 2013), stored without face
detection. People are not identified, and many images are in the set more than once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces.crop import FaceCrop
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.fer2013 import names

HOW_TO_GET = copies.how_to_get(
    "fer2013",
    """\
To get FER2013: download fer2013.tar.gz or icml_face_data.csv from the Kaggle challenge
"Challenges in Representation Learning: Facial Expression Recognition". Put the file, packed or
unpacked, into a folder and run:""",
)
_DRAWN = (
    "train.csv has no PublicTest and PrivateTest: validation and test are drawn from it, so "
    "results do not compare with published ones"
)


def split_as_stored(rows: Sequence[protocols.Row], seed: int) -> Mapping[str, str]:
    """The three official splits; drawn by class for the challenge's train.csv, which has none."""
    return protocols.stored(rows, seed) or protocols.by_group(rows, seed)


class Builder(manual.ManualBuilder):
    """FER2013, with PublicTest as validation and PrivateTest as test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="FER2013's 48 x 48 crops, stored losslessly.",
            crop=FaceCrop(margin=0.0, method="keep"),
            lossless=True,
        ),
    ]
    LABEL_NAMES = labels.FER2013
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "official": protocols.Protocol(
            "official",
            "Training, PublicTest as validation, PrivateTest as test.",
            labels.FER2013,
            split_as_stored,
            note="people are not identified and may be in several splits",
        ),
    }
    EXPECTED: ClassVar[Mapping[str, int]] = names.expected()
    GROUP = ""
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens the csv or the class folders in or below `manual_dir`."""
        return copies.open_copy(
            manual_dir, names.ARCHIVES, _lacks, HOW_TO_GET, otherwise=_lacks_challenge
        )

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`. Holds a csv's pixels in memory: 83 MB for a complete copy."""
        table = names.find_table(source.sizes())
        challenge = None if table or not _lacks(source) else names.find_challenge(source)
        if table:
            records = _from_rows(table, names.read_table(source, table))
        elif challenge:
            records = _from_rows(challenge, names.read_challenge(source, challenge))
        records, drops = (records, []) if table or challenge else _from_folders(source)
        copies.check_classes(records, labels.FER2013, source)
        if not challenge:
            _check_splits(records, source)
        return records, drops

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """A note if the splits are drawn."""
        del source
        return {"notes": _DRAWN} if records[0].split == protocols.STORED else {}


def _lacks(source: sources.Source) -> str:
    if names.find_table(source.sizes()) or any(map(names.is_image, source.sizes())):
        return ""
    return (
        "fer2013.csv or icml_face_data.csv (emotion, pixels, Usage), or images in folders "
        "train/<class>/ and test/<class>/,"
    )


def _lacks_challenge(source: sources.Source) -> str:
    return "" if names.find_challenge(source) else names.CHALLENGE


def _from_rows(table: str, rows: Iterable[names.CsvRow]) -> list[manual.Record]:
    return [
        manual.Record(
            id=row.id,
            file=table,
            label=row.label,
            subject="",
            split=names.USAGES.get(row.usage, protocols.STORED),
            pixels=row.pixels,
        )
        for row in rows
    ]


def _from_folders(
    source: sources.Source,
) -> tuple[list[manual.Record], list[crops.Drop]]:
    files = [file for file in source.sizes() if names.is_image(file)]
    unknown = sorted({file for file in files if names.label_of(file) is None})
    if unknown:
        raise errors.UserError(
            f"expected class folders angry, disgust, fear, happy, sad, surprise and neutral in "
            f"{source.path}, found others: {manual.some(unknown)}. Rename the folders: numbers "
            "can mean the csv's order or the alphabetical one."
        )
    split_of = names.split_of(files)
    _check_test_splits(source, split_of)
    pairs = [(names.record_id(file, split), file) for file, split in split_of.items()]
    first, drops = copies.first_by_id(source, pairs)
    records = [_record(record_id, file, split_of[file]) for record_id, file in first.items()]
    return records, drops


def _check_test_splits(source: sources.Source, split_of: Mapping[str, str]) -> None:
    """Checks that PublicTest and PrivateTest, which most copies put in one folder, differ."""
    unnamed = [file for file in split_of if not names.has_usage(file)]
    if unnamed and protocols.VALIDATION not in split_of.values():
        raise errors.UserError(
            f"expected PublicTest_ and PrivateTest_ in the names of the images in "
            f"{source.path}, or a folder validation beside train and test, found "
            f"{manual.some(unnamed)}. Use a copy with FER2013's splits, or prepare this one as "
            "image_folder."
        )


def _record(record_id: str, file: str, split: str) -> manual.Record:
    label = names.label_of(file)
    assert label is not None  # `_from_folders` has refused other folders
    return manual.Record(id=record_id, file=file, label=label, subject="", split=split)


def _check_splits(records: Sequence[manual.Record], source: sources.Source) -> None:
    missing = sorted(set(protocols.SPLITS) - {record.split for record in records})
    if missing:
        raise errors.UserError(
            f"expected FER2013's three splits in {source.path}, found no {' and no '.join(missing)}"
            ". The copy is incomplete, or has other splits: then prepare it as image_folder."
        )
