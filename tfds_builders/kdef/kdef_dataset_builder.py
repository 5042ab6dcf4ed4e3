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
from fer_jax.data import faces
from tfds_builders import crops, manual, protocols, sources

PICTURES = 4_900
PAPER_TEST = 800  # the paper's table of KDEF results sums to 800
PAPER_POOL = 4_200  # pictures of the paper's six classes

EXPRESSIONS: dict[str, str] = {
    "AF": labels.FEAR,
    "AN": labels.ANGER,
    "DI": labels.DISGUST,
    "HA": labels.HAPPINESS,
    "NE": labels.NEUTRAL,
    "SA": labels.SADNESS,
    "SU": labels.SURPRISE,
}
VIEWS: dict[str, tuple[float, faces.RelativeBox]] = {
    "FL": (-90.0, (0.0, 0.3, 0.7, 0.5)),
    "HL": (-45.0, (0.039, 0.337, 0.575, 0.424)),
    "S": (0.0, (0.135, 0.291, 0.726, 0.535)),
    "HR": (45.0, (0.363, 0.333, 0.594, 0.438)),
    "FR": (90.0, (0.3, 0.3, 0.7, 0.5)),
}
"""View to yaw in degrees and the box that fits KDEF's uniform framing."""

MISNAMED: dict[str, str] = {"AF31V": "AF31SAHL", "AM31H": "AM31SUHR"}
"""Two names of the older copy and what they are; newer copies have them right."""

_NAME = re.compile(r"([AB])([FM])(\d\d)(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)")
_SESSION_FOLDER = re.compile(r"[AB][FM]\d\d", re.IGNORECASE)
_ARCHIVE = re.compile(r".*kdef.*\.zip", re.IGNORECASE)
_PICTURE = re.compile(r".*\.jpe?g", re.IGNORECASE)
_AVERAGES = "AKDEF"
_DUPLICATE = "a second copy of the same picture"

HOW_TO_GET = """\
To get KDEF: ask for it at https://www.kdef.se (researchers only, not commercial); you
are sent KDEF_and_AKDEF.zip. Put it, packed or unpacked, into a folder and name that:
  python -m tfds_builders.build kdef --manual_dir FOLDER
  (in training: --config.data.manual_dir=FOLDER)
To try everything without it, with rendered faces in KDEF's exact form:
  python -m tfds_builders.stand_in kdef stand_in/kdef
  python -m tfds_builders.build kdef --manual_dir stand_in/kdef --data_dir stand_in/tfds"""


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
            if any(_is_kdef(name) for name in source.sizes()):
                return source
        raise errors.UserError(
            f"expected KDEF_and_AKDEF.zip or its unpacked pictures (AF01AFS.JPG ...) in "
            f"{manual_dir}, found {_what_is_there(manual_dir)}.\n{HOW_TO_GET}"
        )

    def index(self, source: sources.Source) -> tuple[list[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`; a name that is not KDEF's in a KDEF folder is an error."""
        files = [name for name in source.sizes() if _is_kdef(name)]
        unknown = [name for name in files if not _NAME.fullmatch(_id(name))]
        if unknown:
            raise errors.UserError(
                f"expected only KDEF's names in {source.path} (AF01AFS.JPG: session, gender, "
                f"number, expression, view), found {len(unknown)} others: "
                f"{', '.join(unknown[:5])}. Move what is not KDEF's out of the folder."
            )
        first: dict[str, str] = {}
        drops = []
        for name in files:
            if _id(name) not in first:
                first[_id(name)] = name
            elif source.sizes()[name] == source.sizes()[first[_id(name)]]:
                drops.append(crops.Drop(_id(name), name, _DUPLICATE, first[_id(name)]))
            else:
                raise errors.UserError(
                    f"expected one picture {_id(name)} in {source.path}, found two that differ: "
                    f"{first[_id(name)]} and {name}. Remove the wrong one."
                )
        return [_record(one, first[one]) for one in sorted(first)], drops

    def split(self, records: Sequence[manual.Record]) -> dict[str, str]:
        """By person and gender, or at random as in the paper; see the configs."""
        config = self.builder_config
        if config.name == "paper":
            return split_as_paper([record.id for record in records], config.seed)
        strata = {record.subject: record.subject[0] for record in records}
        of_subject = protocols.by_group(strata, config.seed)
        return {record.id: of_subject[record.subject] for record in records}


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


def _is_kdef(name: str) -> bool:
    """Whether a file is a picture of KDEF: by its name, or by the folder that it is in."""
    path = PurePosixPath(name)
    if not _PICTURE.fullmatch(path.name) or path.name.startswith("._"):  # macOS's shadow files
        return False
    folders = [part.upper() for part in path.parts[:-1]]
    if _AVERAGES in folders:
        return False
    in_session = bool(folders) and _SESSION_FOLDER.fullmatch(folders[-1]) is not None
    return in_session or _NAME.fullmatch(_id(name)) is not None


def _id(name: str) -> str:
    stem = PurePosixPath(name).stem.upper()
    return MISNAMED.get(stem, stem)


def _record(one: str, file: str) -> manual.Record:
    match = _NAME.fullmatch(one)
    assert match is not None  # `index` let no other name pass
    _, gender, number, expression, view = match.groups()
    yaw, box = VIEWS[view]
    return manual.Record(
        id=one,
        file=file,
        label=EXPRESSIONS[expression],
        subject=gender + number,
        view_box=box,
        extras={"yaw": yaw},
    )


def _what_is_there(manual_dir: Path) -> str:
    if manual_dir.is_file():
        return "an archive without any of them"
    if not manual_dir.exists():
        return "no such folder"
    names = sorted(one.name for one in manual_dir.iterdir())
    if not names:
        return "an empty folder"
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
