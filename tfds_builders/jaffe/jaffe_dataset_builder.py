"""JAFFE by person: ten Japanese women, seven expressions, 213 pictures of 256 x 256 pixels.

Lyons et al., 1998. What is common to all sets that the user brings is in
tfds_builders/manual.py.
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
To get JAFFE: ask for it at https://zenodo.org/records/3451524 (researchers only, not
commercial); you are sent jaffedbase.zip. Put it, packed or unpacked, into a folder and name it:""",
)
_ARCHIVES = r".*jaffe.*\.(zip|tar|tgz|tar\.gz)"


class Builder(manual.ManualBuilder):
    """JAFFE: every fold and split is by person."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(name="face", description="Faces found and cut out."),
    ]
    LABEL_NAMES = labels.JAFFE
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "subject": protocols.Protocol(
            "subject",
            "Seven expressions; six people train, two validate, two test.",
            labels.JAFFE,
            protocols.by_group,
            note="two people in the test split: fold1of10 to fold10of10 say more",
        ),
    }
    EXPECTED = names.PICTURES
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def open_source(self, manual_dir: Path) -> sources.Source:
        """The pictures in or below `manual_dir`, which may be the archive itself."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`; a picture beside the others with another name is an error."""
        found = {file: one for file in source.sizes() if (one := names.picture_id(file))}
        known = {file: one for file, one in found.items() if names.parse(one)}
        folders = {_folder(file) for file in known}
        strange = [file for file in found if file not in known and _folder(file) in folders]
        if strange:
            raise errors.UserError(
                f"expected only JAFFE's names in {source.path} (KA.AN1.39.tiff: person, "
                f"expression and its number, number), found {manual.some(strange)}. Move what is "
                "not JAFFE's out of the folder."
            )
        pairs = [(one, file) for file, one in known.items()]
        first, drops = copies.first_by_id(source, pairs, names.worth)
        records = [_record(one, file) for one, file in first.items()]
        copies.check_classes(records, labels.JAFFE, source)
        return records, drops


def _lacks(source: sources.Source) -> str:
    ids = map(names.picture_id, source.sizes())
    if any(one and names.parse(one) for one in ids):
        return ""
    return "jaffedbase.zip or its unpacked pictures (KA.AN1.39.tiff ...)"


def _record(one: str, file: str) -> manual.Record:
    parsed = names.parse(one)
    assert parsed is not None  # `index` let no other name pass
    person, label = parsed
    return manual.Record(id=one, file=file, label=label, subject=person)


def _folder(file: str) -> str:
    return file.rpartition("/")[0]
