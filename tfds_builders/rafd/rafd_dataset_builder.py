"""TFDS builder of RaFD: 67 models, eight expressions, three gaze directions, five cameras.

8,040 JPEGs of 681 x 1024 pixels (Langner et al., 2010).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.rafd import names

_ARCHIVES = r".*rafd.*\.zip"

HOW_TO_GET = copies.how_to_get(
    "rafd",
    """\
To get RaFD: request it at https://rafd.socsci.ru.nl (accredited researchers only). You download
one or several RafDDownload-....zip. Put them, packed or unpacked, into a folder and run:""",
)
IMAGES = 8_040


class Builder(manual.ManualBuilder):
    """RaFD, split by person (`subject`, the default) or as in the paper (`paper`)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="Squares around the face, from Haar cascades or the camera's face box.",
        )
    ]
    LABEL_NAMES: ClassVar[tuple[str, ...]] = labels.RAFD
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "subject": protocols.Protocol(
            name="subject",
            description="70/15/15 % of the people of each kind: women, men, children, Moroccans.",
            label_names=labels.RAFD,
            assign=protocols.by_group,
        ),
        "paper": protocols.Protocol(
            name="paper",
            description="Test: a random fifth (1,608). Validation: 10 % of the rest.",
            label_names=labels.RAFD,
            assign=functools.partial(protocols.random_fifth, whole=IMAGES),
            note="the paper's split was random: the same people, and even the same moment seen "
            "by five cameras, are in train and test, so accuracy says little about new people",
        ),
    }
    EXPECTED: ClassVar[int] = IMAGES
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """Camera yaw in degrees (the number in the name minus 90), gaze, sex and ethnicity."""
        return {
            "yaw": tfds.features.Scalar(dtype=np.float32),
            "gaze": tfds.features.ClassLabel(names=list(names.GAZES)),
            "sex": tfds.features.ClassLabel(names=list(names.SEXES)),
            "ethnicity": tfds.features.ClassLabel(names=list(names.KINDS)),  # as in the name
        }

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens RaFD's zips or images in or below `manual_dir`, which may be a zip itself."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET, in_parts=True)

    def index(self, source: sources.Source) -> tuple[list[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`. A name that is similar to RaFD's but invalid is an error."""
        files = _images(source)
        invalid = [file for file in files if names.parse(file) is None]
        if invalid:
            raise errors.UserError(
                f"expected only RaFD's file names in {source.path} "
                "(Rafd090_01_Caucasian_female_angry_frontal.jpg: camera, person, kind, sex, "
                f"expression, gaze; prefixes are allowed), found {len(invalid)} others: "
                f"{manual.some(invalid)}. Move other images out of the folder."
            )
        pairs = [(names.image_id(file), file) for file in files]
        first, drops = copies.first_by_id(source, pairs, names.priority)
        drops += _other_images(source, files)
        records = [_record(*pair) for pair in first.items()]
        _check_numbers(records, source)
        copies.check_classes(records, labels.RAFD, source)
        return records, drops


def _images(source: sources.Source) -> list[str]:
    files = sources.files_with_suffix(source, names.ENDINGS)
    return [file for file in files if names.is_image(file)]


def _lacks(source: sources.Source) -> str:
    if _images(source):
        return ""
    return (
        "RafDDownload-....zip or its unpacked images "
        "(Rafd090_01_Caucasian_female_angry_frontal.jpg ...)"
    )


def _other_images(source: sources.Source, files: Sequence[str]) -> list[crops.Drop]:
    """Drops the images with other names in RaFD's folders."""
    folders = {PurePosixPath(file).parent for file in files}
    return [
        crops.Drop(PurePosixPath(file).stem, file, "not a RaFD file name", "")
        for file in sources.files_with_suffix(source, names.ENDINGS)
        if PurePosixPath(file).parent in folders and not names.is_image(file)
    ]


def _record(image_id: str, file: str) -> manual.Record:
    parts = names.parse(image_id)
    assert parts is not None  # ids are valid names
    view, number, kind, sex, expression, gaze = parts
    yaw, box = names.VIEWS[view]
    return manual.Record(
        id=image_id,
        file=file,
        label=names.EXPRESSIONS[expression],
        subject=number,
        # Children of each sex are too few for strata, and there are no Moroccan women.
        stratum=f"{kind} {sex}" if kind == "Caucasian" else kind,
        view_box=box,
        extras={"yaw": yaw, "gaze": gaze, "sex": sex, "ethnicity": kind},
    )


def _check_numbers(records: Sequence[manual.Record], source: sources.Source) -> None:
    """Raises a `UserError` if two people share a number, which would make them one subject."""
    by_number: dict[str, manual.Record] = {}
    for record in records:
        other = by_number.setdefault(record.subject, record)
        if other.stratum != record.stratum or other.extras["sex"] != record.extras["sex"]:
            raise errors.UserError(
                f"expected one person of number {record.subject} in {source.path}, found "
                f"{other.file} and {record.file}. Restore the name of the one that was renamed."
            )
