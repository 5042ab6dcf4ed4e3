"""KDEF: its names, where its cameras see the face, and its two protocols.

70 people, seven expressions, five views, two sessions: 4,900 JPEGs of 562 x 762 (Lundqvist,
Flykt and Ohman, 1998). What is common to all sets that the user brings is in
tfds_builders/manual.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces.crop import FaceCrop
from tfds_builders import crops, manual, protocols, sources
from tfds_builders.kdef import names

PAPER_TEST = 800  # the paper's table of KDEF results sums to 800
PAPER_POOL = 4_200  # pictures of the paper's six classes

_ARCHIVE = re.compile(r".*kdef.*\.(zip|tar|tar\.gz|tgz)", re.IGNORECASE)

HOW_TO_GET = """\
To get KDEF: ask for it at https://www.kdef.se (researchers only, not commercial); you
are sent KDEF_and_AKDEF.zip. Put it, packed or unpacked, into a folder and name that:
  fer-jax prepare kdef --manual_dir FOLDER
  (in training: --config.data.manual_dir=FOLDER)
To try everything without it, with rendered faces in KDEF's exact form:
  fer-jax stand-in kdef data/stand_in/kdef
  fer-jax prepare kdef --manual_dir data/stand_in/kdef --data_dir data/stand_in/tfds
  (then in training: --config.data.dir=data/stand_in/tfds)"""


def split_as_paper(rows: Sequence[protocols.Row], seed: int) -> Mapping[str, str]:
    """800 test pictures; of a part of KDEF, such as a small stand-in, the same share."""
    whole = len(rows) > PAPER_POOL * 0.9
    test = PAPER_TEST if whole else round(len(rows) * PAPER_TEST / PAPER_POOL)
    return protocols.at_random(rows, seed, test)


class Builder(manual.ManualBuilder):
    """KDEF by person (`subject`, the default) or as in the paper (`paper`)."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "2.0.0": "All protocols share one variant; landmarks.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="Faces found by the Haar cascades, else the camera view's box.",
            crop=FaceCrop(margin=0.1, min_share=0.3),
        ),
    ]
    LABEL_NAMES = labels.KDEF
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "subject": protocols.Protocol(
            "subject",
            "Seven expressions; 70/15/15 % of the people of each gender.",
            labels.KDEF,
            protocols.by_group,
        ),
        "paper": protocols.Protocol(
            "paper",
            "Six expressions; 800 random test pictures, 10 % of the rest validation.",
            labels.KDEF_PAPER,
            split_as_paper,
            note="approximation of the paper's split, which was random: the same people are in "
            "train and test, so accuracy says little about new people",
            mask="ellipse",  # the paper: "only the facial part visible, the other part masked"
        ),
    }
    EXPECTED = 4_900
    DROPS_BLACK = True
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """The camera's yaw in degrees, negative where the full left profile is."""
        return {"yaw": tfds.features.Scalar(dtype=np.float32)}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """KDEF's archive or tree in or below `manual_dir`, which may be the archive itself."""
        for source in _candidates(manual_dir):
            if any(names.is_picture(name) for name in source.sizes()):
                return source
        raise errors.UserError(
            f"expected KDEF_and_AKDEF.zip or its unpacked pictures (AF01AFS.JPG ...) in "
            f"{manual_dir}, found {manual.what_is_there(manual_dir)}.\n{HOW_TO_GET}"
        )

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`; a name that is not KDEF's in a KDEF folder is an error."""
        files = [name for name in source.sizes() if names.is_picture(name)]
        unknown = [name for name in files if not names.parse(names.picture_id(name))]
        if unknown:
            raise errors.UserError(
                f"expected only KDEF's names in {source.path} (AF01AFS.JPG: session, gender, "
                f"number, expression, view), found {len(unknown)} others: "
                f"{manual.some(unknown)}. Move what is not KDEF's out of the folder."
            )
        first, drops = manual.drop_copies(source, files, names.picture_id)
        return [_record(one, first[one]) for one in sorted(first)], drops


def _candidates(manual_dir: Path) -> Iterator[sources.Source]:
    """Where to look, the tree before its archive."""
    if manual_dir.is_file():
        yield sources.open_archive(manual_dir)
    elif manual_dir.is_dir():
        yield sources.FolderSource(manual_dir)
        for one in sorted(manual_dir.iterdir()):
            if _ARCHIVE.fullmatch(one.name) and one.is_file():
                yield sources.open_archive(one)


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
        stratum=gender,
        view_box=box,
        misnamed=stem if (stem := PurePosixPath(file).stem.upper()) != one else "",
        extras={"yaw": yaw},
    )
