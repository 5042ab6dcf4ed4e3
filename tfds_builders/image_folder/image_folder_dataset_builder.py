"""A folder of one's own: `<root>/<split>/<class>/*` or `<root>/<class>/*`.

Pictures are kept as they are by default (`keep`), because most people's folders hold faces
that were cut out before, and looking for a face in a tight crop makes the framing worse
and uneven; `face` is for photographs that show more. Each folder has its own name among
the prepared sets. What is common to all sets that the user brings is in
tfds_builders/manual.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import errors
from fer_jax.faces import detect as faces
from tfds_builders import crops, manual, pictures, protocols, sources
from tfds_builders.image_folder import tree

HOW_TO_GET = """\
Put your pictures (JPEG, PNG, TIFF, BMP) into one folder for each class, with or without splits,
  FOLDER/happy/*.jpg  FOLDER/sad/*.jpg ...   or   FOLDER/train/happy/*.jpg  FOLDER/test/happy/*.jpg
and name the folder, or a zip of it:
  fer-jax prepare image_folder --manual_dir FOLDER
Pictures are kept as they are; for photographs that show more than a face: --config face.
To keep a person out of two splits, add FOLDER/subjects.csv with the columns file, subject."""

NO_PICTURE = "not a picture by its name"


def by_folders(rows: Sequence[protocols.Row], seed: int) -> dict[str, str]:
    """The splits that the folders name; what is missing comes out of train.

    By subject where subjects are known, else at random within each class.
    """
    stored = {row.split for row in rows}
    if stored == {protocols.STORED}:
        return protocols.by_group(rows, seed)
    if protocols.TEST in stored:
        return protocols.official(rows, seed)
    train = [row for row in rows if row.split == protocols.TRAIN]
    drawn = protocols.official(train, seed, validation=0.15)
    held = {one: protocols.TEST for one, split in drawn.items() if split == protocols.VALIDATION}
    return {row.id: row.split for row in rows} | held


class Builder(manual.ManualBuilder):
    """One's own pictures; the classes are the folders."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="keep",
            description="Pictures as they are: faces that were cut out before.",
            crop=faces.FaceCrop(margin=0.0, method="keep"),
        ),
        manual.Variant(name="face", description="Faces found in photographs and cut out."),
    ]
    LABEL_NAMES: ClassVar[tuple[str, ...]] = ()
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "folders": protocols.Protocol(
            "folders",
            "The splits that the folders name; what they lack comes out of train.",
            (),
            by_folders,
        ),
    }
    EXPECTED = 0  # nobody knows
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    @classmethod
    def variant_for(cls, manual_dir: Path | None, variant: manual.Variant) -> manual.Variant:
        """Names the variant after the folder, and takes the classes from it."""
        if manual_dir is None:
            raise errors.UserError(
                "expected the folder of your pictures (--manual_dir, config.data.manual_dir), "
                f"found none named.\n{HOW_TO_GET}"
            )
        folder = manual_dir.expanduser().resolve()
        found = tree.understand(_open(folder))
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:6]
        plain = re.sub(r"[^a-z0-9]+", "_", folder.stem.lower()).strip("_") or "folder"
        return manual.Variant(
            name=f"{variant.name}-{plain}-{digest}",
            description=variant.description,
            crop=variant.crop,
            label_names=tuple(found.classes.values()),
            base=variant.base or variant.name,
        )

    def open_source(self, manual_dir: Path) -> sources.Source:
        """The folder or archive, if it has class folders with pictures."""
        source = _open(manual_dir)
        tree.understand(source)
        return source

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`; files that are no pictures are counted and named."""
        found = tree.understand(source)
        who = tree.subjects(source, found)
        records = [
            manual.Record(
                id=file,
                file=found.root + file,
                label=found.label_of(file),
                subject=who.get(file, ""),
                split=found.split_of(file),
            )
            for file in found.files
        ]
        return records, [crops.Drop(file, file, NO_PICTURE, "") for file in found.others]

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """What is and is not known about splits and people."""
        found = tree.understand(source)
        splits = ", ".join(found.splits) or "none"
        known = len({record.subject for record in records} - {""})
        people = (
            f"{known:,} subjects in {tree.SUBJECTS}"
            if known
            else f"no {tree.SUBJECTS}: the same person may be in several splits"
        )
        return {"summary": [f"splits of the folder: {splits}; {people}"]}


def _open(manual_dir: Path) -> sources.Source:
    if manual_dir.is_dir():
        folder = sources.FolderSource(manual_dir)
        packed = not sources.pictures_in(folder, pictures.ENDINGS)
        return sources.gather(manual_dir) if packed else folder
    if manual_dir.is_file() and sources.ARCHIVE.fullmatch(manual_dir.name):
        return sources.open_archive(manual_dir)
    raise errors.UserError(
        f"expected a folder of pictures, or a zip of one, found none at {manual_dir}.\n{HOW_TO_GET}"
    )
