"""TFDS builder of a user's own images: `<root>/<class>/*`, also below split or person folders.

Stores the images unchanged by default (`keep`), because most such folders contain face
crops, and detecting faces in tight crops makes the framing worse and inconsistent. `face`
is for photos that show more. Each folder is prepared under a config name derived from its path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import buckets, errors
from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.detect import MTCNN
from tfds_builders import crops, manual, protocols, sources
from tfds_builders.image_folder import tree

HOW_TO_GET = """\
Put your images (JPEG, PNG, TIFF, BMP, WebP) into one folder per class, with or without splits,
  FOLDER/happy/*.jpg  FOLDER/sad/*.jpg ...   or   FOLDER/train/happy/*.jpg  FOLDER/test/happy/*.jpg
and pass the folder, or a zip of it:
  fer-jax train --data FOLDER   or   fer-jax prepare image_folder --manual_dir FOLDER
`prepare` stores images unchanged. For photos that show more than a face, add --config face.
To keep each person in one split, use one folder per person, FOLDER/anna/happy/*.jpg, or add
FOLDER/subjects.csv with the columns file, subject."""

NO_IMAGE = "not an image of a known format"

_NEXT_SEED = 1_000_003  # far from the seeds that people choose


def by_folders(rows: Sequence[protocols.Row], seed: int) -> dict[str, str]:
    """Splits by the split folders; missing splits are drawn from train.

    Draws by subject if subjects are known, else at random within each class.
    """
    stored = {row.split for row in rows}
    if stored in ({protocols.STORED}, {protocols.TRAIN}):
        return _draw_with_all_classes(rows, seed)
    if protocols.TEST in stored:
        return protocols.official(rows, seed)
    train = [row for row in rows if row.split == protocols.TRAIN]
    drawn = protocols.official(train, seed, validation=0.15)
    test = [row_id for row_id, split in drawn.items() if split == protocols.VALIDATION]
    return {row.id: row.split for row in rows} | dict.fromkeys(test, protocols.TEST)


def _draw_with_all_classes(rows: Sequence[protocols.Row], seed: int) -> dict[str, str]:
    """Draws the splits by subject again, at most 100 times, while one lacks a class.

    Few people show a rare class. The first draw is returned if none has all classes.
    """
    names = {row.label for row in rows}
    draws = (protocols.by_group(rows, seed + attempt * _NEXT_SEED) for attempt in range(100))
    first: dict[str, str] = {}
    for assigned in draws:
        first = first or assigned
        if len({(assigned[row.id], row.label) for row in rows}) == 3 * len(names):
            return assigned
    return first


class Builder(manual.ManualBuilder):
    """A user's own images; each folder is a class."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="keep",
            description="Images unchanged, for folders of face crops.",
            crop=FaceCrop(margin=0.0, method="keep"),
        ),
        manual.Variant(
            name="pad",
            description="Images padded to squares, for folders of face crops.",
            crop=FaceCrop(margin=0.0, method="pad"),
        ),
        manual.Variant(
            name="face",
            description="Faces detected in photos by MTCNN and cropped.",
            crop=FaceCrop(detector=MTCNN, min_share=0.1),  # photos, not portraits
        ),
    ]
    LABEL_NAMES: ClassVar[tuple[str, ...]] = ()
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "folders": protocols.Protocol(
            "folders",
            "The split folders; missing splits are drawn from train.",
            (),
            by_folders,
        ),
    }
    EXPECTED = 0  # unknown
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    @classmethod
    def variant_for(cls, manual_dir: Path | None, variant: manual.Variant) -> manual.Variant:
        """Returns a variant named after the folder, with the folder's classes."""
        if manual_dir is None:
            raise errors.UserError(
                "expected the folder of your images (--manual_dir, config.data.manual_dir), "
                f"found none.\n{HOW_TO_GET}"
            )
        folder = manual_dir.expanduser().resolve()
        layout = tree.parse(open_folder(folder))
        place = buckets.origin(manual_dir)
        key = place if buckets.is_url(place) else str(folder)
        digest = hashlib.sha256(key.encode()).hexdigest()[:6]
        plain = re.sub(r"[^a-z0-9]+", "_", folder.stem.lower()).strip("_") or "folder"
        return manual.Variant(
            name=f"{variant.name}-{plain}-{digest}",
            description=variant.description,
            crop=variant.crop,
            label_names=tuple(layout.classes.values()),
            base=variant.base or variant.name,
        )

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens the folder or archive, which must contain class folders with images."""
        source = open_folder(manual_dir)
        tree.parse(source)
        return source

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`. Files that are not images are drops."""
        layout = tree.parse(source)
        subjects = tree.subjects(source, layout)
        records = [
            manual.Record(
                id=file,
                file=layout.root + file,
                label=layout.label_of(file),
                subject=subjects.get(file, ""),
                split=layout.split_of(file),
            )
            for file in layout.files
        ]
        return records, [crops.Drop(file, file, NO_IMAGE, "") for file in layout.others]

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """Summarizes the split folders and the number of subjects."""
        layout = tree.parse(source)
        folders = [f"{split} ({folder})" for folder, split in sorted(layout.splits.items())]
        number = len({record.subject for record in records} - {""})
        place = PurePosixPath(layout.table).name if layout.table else "person folders"
        subjects = (
            f"{number:,} subjects in {place}"
            if number
            else f"no {tree.SUBJECTS}: the same person may be in several splits"
        )
        return {"summary": [f"split folders: {', '.join(folders) or 'none'}; {subjects}"]}


def open_folder(manual_dir: Path) -> sources.Source:
    """Opens a folder of images, one of archives, or an archive.

    Raises:
      errors.UserError: There is no such folder, or the file is no archive.
    """
    if manual_dir.is_dir():
        folder = sources.FolderSource(manual_dir)
        packed = not sources.files_with_suffix(folder, sources.IMAGE_SUFFIXES)
        return sources.gather(manual_dir) if packed else folder
    if manual_dir.is_file() and sources.ARCHIVE.fullmatch(manual_dir.name):
        return sources.open_archive(manual_dir)
    raise errors.UserError(
        f"expected a folder of images, or a zip of one, found none at {manual_dir}: "
        f"{manual.describe_folder(manual_dir)}.\n{HOW_TO_GET}"
    )
