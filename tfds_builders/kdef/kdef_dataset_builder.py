"""KDEF: its names, where its cameras see the face, and its two protocols.

70 people, seven expressions, five views, two sessions: 4,900 JPEGs of 562 x 762 (Lundqvist,
Flykt and Ohman, 1998). What is common to all sets that the user brings is in
tfds_builders/manual.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from tfds_builders import crops, manual, protocols, sources
from tfds_builders.kdef import names

PAPER_TEST = 800  # the paper's table of KDEF results sums to 800
PAPER_POOL = 4_200  # pictures of the paper's six classes

_ARCHIVE = re.compile(r".*kdef.*\.zip", re.IGNORECASE)
_DUPLICATE = "a second copy of the same picture"

HOW_TO_GET = """\
To get KDEF: ask for it at https://www.kdef.se (researchers only, not commercial); you
are sent KDEF_and_AKDEF.zip. Put it, packed or unpacked, into a folder and name that:
  python -m tfds_builders.build kdef --manual_dir FOLDER
  (in training: --config.data.manual_dir=FOLDER)
To try everything without it, with rendered faces in KDEF's exact form:
  python -m tfds_builders.stand_in kdef data/stand_in/kdef
  python -m tfds_builders.build kdef --manual_dir data/stand_in/kdef --data_dir data/stand_in/tfds
  (then in training: --config.data.dir=data/stand_in/tfds)"""


class Builder(manual.ManualBuilder):
    """KDEF by person (`subject`, the default) or as in the paper (`paper`)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.ManualConfig]] = [
        manual.ManualConfig(
            name="subject",
            description="Seven expressions; 70/15/15 % of the people of each gender.",
            label_names=labels.SEVEN,
        ),
        manual.ManualConfig(
            name="paper",
            description="Six expressions; 800 random test pictures, 10 % of the rest validation.",
            label_names=labels.KDEF_PAPER,
        ),
    ]
    EXPECTED = 4_900
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET
    NOTES: ClassVar[Mapping[str, str]] = {
        "paper": "approximation of the paper's split, which was random: the same people are in "
        "train and test, so accuracy says little about new people",
    }

    def extra_features(self) -> dict[str, Any]:
        """The camera's yaw in degrees, negative where the full left profile is."""
        return {"yaw": tfds.features.Scalar(dtype=np.float32)}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """KDEF's zip or tree in or below `manual_dir`, which may be the zip itself."""
        for source in _candidates(manual_dir):
            if any(names.is_picture(name) for name in source.sizes()):
                return source
        raise errors.UserError(
            f"expected KDEF_and_AKDEF.zip or its unpacked pictures (AF01AFS.JPG ...) in "
            f"{manual_dir}, found {_what_is_there(manual_dir)}.\n{HOW_TO_GET}"
        )

    def index(self, source: sources.Source) -> tuple[list[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`; a name that is not KDEF's in a KDEF folder is an error."""
        files = [name for name in source.sizes() if names.is_picture(name)]
        unknown = [name for name in files if not names.parse(names.picture_id(name))]
        if unknown:
            raise errors.UserError(
                f"expected only KDEF's names in {source.path} (AF01AFS.JPG: session, gender, "
                f"number, expression, view), found {len(unknown)} others: "
                f"{manual.some(unknown)}. Move what is not KDEF's out of the folder."
            )
        first, drops = _drop_copies(source, files)
        return [_record(one, first[one]) for one in sorted(first)], drops

    def split(self, records: Sequence[manual.Record]) -> dict[str, str]:
        """By person and gender, or at random as in the paper; see the configs."""
        config = self.builder_config
        if config.name == "paper":
            return split_as_paper([record.id for record in records], config.seed)
        strata = {record.subject: record.subject[0] for record in records}
        of_subject = protocols.by_group(strata, config.seed)
        return {record.id: of_subject[record.subject] for record in records}


def _drop_copies(
    source: sources.Source, files: Sequence[str]
) -> tuple[dict[str, str], list[crops.Drop]]:
    """Each picture's first file by id, and the further copies; two that differ are an error."""
    sizes = source.sizes()
    first: dict[str, str] = {}
    drops = []
    for file in files:
        one = names.picture_id(file)
        if one not in first:
            first[one] = file
        elif sizes[file] == sizes[first[one]]:
            drops.append(crops.Drop(one, file, _DUPLICATE, first[one]))
        else:
            raise errors.UserError(
                f"expected one picture {one} in {source.path}, found two that differ: "
                f"{first[one]} and {file}. Remove the wrong one."
            )
    return first, drops


def split_as_paper(ids: Sequence[str], seed: int) -> dict[str, str]:
    """800 test pictures; of a part of KDEF, such as a small stand-in, the same share."""
    whole = len(ids) > PAPER_POOL * 0.9
    test = PAPER_TEST if whole else round(len(ids) * PAPER_TEST / PAPER_POOL)
    return protocols.at_random(ids, seed, test)


def _candidates(manual_dir: Path) -> list[sources.Source]:
    """Where to look, the tree before its archive."""
    if manual_dir.is_file():
        return [sources.ZipSource(manual_dir)]
    if not manual_dir.is_dir():
        return []
    archives = sorted(one for one in manual_dir.iterdir() if _ARCHIVE.fullmatch(one.name))
    tree: list[sources.Source] = [sources.FolderSource(manual_dir)]
    return tree + [sources.ZipSource(one) for one in archives if one.is_file()]


def _record(one: str, file: str) -> manual.Record:
    match = names.parse(one)
    assert match is not None  # `index` let no other name pass
    _, gender, number, expression, view = match.groups()
    yaw, box = names.VIEWS[view]
    return manual.Record(
        id=one,
        file=file,
        label=names.EXPRESSIONS[expression],
        subject=gender + number,
        view_box=box,
        misnamed=stem if (stem := PurePosixPath(file).stem.upper()) != one else "",
        extras={"yaw": yaw},
    )


def _what_is_there(manual_dir: Path) -> str:
    if manual_dir.is_file():
        return "an archive without any of them"
    if not manual_dir.exists():
        return "no such folder"
    entries = sorted(one.name for one in manual_dir.iterdir())
    return manual.some(entries) if entries else "an empty folder"
