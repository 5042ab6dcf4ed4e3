"""KDEF: labels and views from file names, and the two protocols of the set.

70 people, seven expressions, five views, two sessions: 4,900 JPEGs of 562 x 762 (Lundqvist,
Flykt and Ohman, 1998). Code shared by all sets that the user brings is in
tfds_builders/manual.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces.crop import FaceCrop
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.kdef import names

PAPER_TEST = 800  # the paper's table of KDEF results sums to 800
PAPER_POOL = 4_200  # images of the paper's six classes

HOW_TO_GET = copies.how_to_get(
    "kdef",
    """\
To get KDEF: ask for it at https://www.kdef.se (researchers only, not commercial). You receive
KDEF_and_AKDEF.zip. Put it, packed or unpacked, into a folder and name that:""",
)

_ARCHIVES = r".*kdef.*\.(zip|tar|tar\.gz|tgz)"


def split_as_paper(rows: Sequence[protocols.Row], seed: int) -> Mapping[str, str]:
    """800 random test images; the same share of a smaller copy, such as a stand-in."""
    is_whole = len(rows) > PAPER_POOL * 0.9
    test = PAPER_TEST if is_whole else round(len(rows) * PAPER_TEST / PAPER_POOL)
    return protocols.at_random(rows, seed, test)


class Builder(manual.ManualBuilder):
    """KDEF, split by person (`subject`, the default) or as in the paper (`paper`)."""

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
            "Six expressions; 800 random test images, 10 % of the rest validation.",
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
        """Yaw of the camera view in degrees; negative for the left profile."""
        return {"yaw": tfds.features.Scalar(dtype=np.float32)}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens KDEF's archive or tree in or below `manual_dir`."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`. Raises a `UserError` for another file name in a KDEF folder."""
        files = [file for file in source.sizes() if names.is_image(file)]
        unknown = [file for file in files if not names.parse(names.image_id(file))]
        if unknown:
            raise errors.UserError(
                f"expected only KDEF's file names in {source.path} (AF01AFS.JPG: session, gender, "
                f"number, expression, view), found {len(unknown)} others: "
                f"{manual.some(unknown)}. Move other files out of the folder."
            )
        pairs = [(names.image_id(file), file) for file in files]
        first, drops = copies.first_by_id(source, pairs)
        return [_record(image_id, file) for image_id, file in first.items()], drops


def _lacks(source: sources.Source) -> str:
    if any(map(names.is_image, source.sizes())):
        return ""
    return "KDEF_and_AKDEF.zip or its unpacked images (AF01AFS.JPG ...)"


def _record(image_id: str, file: str) -> manual.Record:
    match = names.parse(image_id)
    assert match is not None  # `index` has refused other names
    _, gender, number, expression, view = match.groups()
    yaw, box = names.VIEWS[view]
    stem = PurePosixPath(file).stem.upper()
    return manual.Record(
        id=image_id,
        file=file,
        label=names.EXPRESSIONS[expression],
        subject=gender + number,
        stratum=gender,
        view_box=box,
        misnamed="" if stem.startswith(image_id) else stem,
        extras={"yaw": yaw},
    )
