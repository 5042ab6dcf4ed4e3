"""RaFD: eight expressions, three gazes, five cameras, and its two protocols.

67 models: 8,040 JPEGs of 681 x 1024 (Langner et al., 2010). What is common to all sets
that the user brings is in tfds_builders/manual.py.
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
To get RaFD: ask for it at https://rafd.socsci.ru.nl (accredited researchers only); you
download RafDDownload-....zip, one or several. Put them, packed or unpacked, into a folder
and name that:""",
)


PICTURES = 8_040


class Builder(manual.ManualBuilder):
    """RaFD by person (`subject`, the default) or as in the paper (`paper`)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="Squares around the face that Haar cascades find, or the view's box.",
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
            description="A random fifth is the test (1,608), 10 % of the rest validation.",
            label_names=labels.RAFD,
            assign=functools.partial(protocols.random_fifth, whole=PICTURES),
            note="the paper's split was random: the same people, even the same moment seen by "
            "five cameras, are in train and test, so accuracy says little about new people",
        ),
    }
    EXPECTED: ClassVar[int] = PICTURES
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """Camera angle in degrees (the number in the name less 90), gaze, and who is seen."""
        return {
            "yaw": tfds.features.Scalar(dtype=np.float32),
            "gaze": tfds.features.ClassLabel(names=list(names.GAZES)),
            "sex": tfds.features.ClassLabel(names=list(names.SEXES)),
            "ethnicity": tfds.features.ClassLabel(names=list(names.KINDS)),  # the name's word
        }

    def open_source(self, manual_dir: Path) -> sources.Source:
        """RaFD's zips or pictures in or below `manual_dir`, which may be a zip itself."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET, in_parts=True)

    def index(self, source: sources.Source) -> tuple[list[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`; a name that is nearly RaFD's is an error."""
        files = _named(source)
        unknown = [file for file in files if names.parse(file) is None]
        if unknown:
            raise errors.UserError(
                f"expected only RaFD's names in {source.path} "
                "(Rafd090_01_Caucasian_female_angry_frontal.jpg: camera, person, kind, sex, "
                f"expression, gaze; anything may stand before), found {len(unknown)} others: "
                f"{manual.some(unknown)}. Move what is not RaFD's out of the folder."
            )
        pairs = [(names.picture_id(file), file) for file in files]
        first, drops = copies.first_by_id(source, pairs, names.worth)
        drops += _foreign(source, files)
        records = [_record(*pair) for pair in first.items()]
        _refuse_two_of_a_number(records, source)
        copies.check_classes(records, labels.RAFD, source)
        return records, drops


def _named(source: sources.Source) -> list[str]:
    return [file for file in sources.pictures_in(source, names.ENDINGS) if names.is_picture(file)]


def _lacks(source: sources.Source) -> str:
    if _named(source):
        return ""
    return (
        "RafDDownload-....zip or its unpacked pictures "
        "(Rafd090_01_Caucasian_female_angry_frontal.jpg ...)"
    )


def _foreign(source: sources.Source, files: Sequence[str]) -> list[crops.Drop]:
    """Pictures of other names beside RaFD's: left out, but said."""
    folders = {PurePosixPath(file).parent for file in files}
    others = sources.pictures_in(source, names.ENDINGS)
    return [
        crops.Drop(PurePosixPath(file).stem, file, "not named as RaFD's are", "")
        for file in others
        if PurePosixPath(file).parent in folders and not names.is_picture(file)
    ]


def _record(one: str, file: str) -> manual.Record:
    parts = names.parse(one)
    assert parts is not None  # ids are RaFD's own names
    view, number, kind, sex, expression, gaze = parts
    yaw, box = names.VIEWS[view]
    return manual.Record(
        id=one,
        file=file,
        label=names.EXPRESSIONS[expression],
        subject=number,
        # There are too few children of either sex, and no Moroccan women, to part them further.
        stratum=f"{kind} {sex}" if kind == "Caucasian" else kind,
        view_box=box,
        extras={"yaw": yaw, "gaze": gaze, "sex": sex, "ethnicity": kind},
    )


def _refuse_two_of_a_number(records: Sequence[manual.Record], source: sources.Source) -> None:
    """One number with two kinds would be two people whom no split keeps apart."""
    seen: dict[str, manual.Record] = {}
    for one in records:
        other = seen.setdefault(one.subject, one)
        if other.stratum != one.stratum or other.extras["sex"] != one.extras["sex"]:
            raise errors.UserError(
                f"expected one person of number {one.subject} in {source.path}, found {other.file} "
                f"and {one.file}. One of them was renamed: put that right."
            )
