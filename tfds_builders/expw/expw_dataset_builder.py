"""ExpW: 91,793 faces in photographs from the web, with the boxes that come with them.

Zhang et al., 2018. A photograph may have several faces: all of them are in one split.
What is common to all sets that the user brings is in tfds_builders/manual.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces import detect as faces
from tfds_builders import copies, crops, manual, pictures, protocols, sources
from tfds_builders.expw import names

HOW_TO_GET = copies.how_to_get(
    "expw",
    """\
To get ExpW: follow https://mmlab.ie.cuhk.edu.hk/projects/socialrelation (not commercial); it is
label.lst and the photographs as image.7z.001 and further parts. Unpack these (7z x image.7z.001),
or pack what comes out of them as a zip, put label.lst beside it and name the folder:""",
)
NO_PHOTO = "its photograph is missing"
NO_AREA = "its box has no area"
LISTED_TWICE = "listed twice"
_ARCHIVES = r".*(expw|image|origin|expression).*\.(zip|tar)"
_MISSING_SHARE = 0.01  # more is a missing part of the archive, not a missing photograph


class Builder(manual.ManualBuilder):
    """ExpW by photograph; the boxes are the set's own."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="The set's own boxes with a small margin.",
            crop=faces.FaceCrop(method="shipped"),
        ),
    ]
    LABEL_NAMES = labels.EXPW
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "photo": protocols.Protocol(
            "photo",
            "Seven expressions; 70/15/15 % of the photographs, the set has no splits of its own.",
            labels.EXPW,
            protocols.by_group,
            note="who is in a photograph is not known: people may be in several splits",
        ),
    }
    EXPECTED = names.FACES
    GROUP = "photo"
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """How sure the set's own face detector was."""
        return {"confidence": tfds.features.Scalar(dtype=np.float32)}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """label.lst and the photographs in or below `manual_dir`."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`; a face is a record, so a photograph may be read several times."""
        photos = {
            PurePosixPath(file).name.lower(): file
            for file in sources.pictures_in(source, pictures.ENDINGS)
        }
        lines = list(names.read(source, _find_list(source) or ""))
        strata = _strata(lines)
        records: dict[str, manual.Record] = {}
        drops = []
        for line in lines:
            file = photos.get(line.photo.lower())
            reason = _fault(line, file, records)
            if reason or file is None:
                drops.append(crops.Drop(line.id, file or line.photo, reason, f"box {line.box}"))
            else:
                records[line.id] = _record(line, file, strata[line.photo])
        _check_missing(source, drops, len(records))
        copies.check_classes(list(records.values()), labels.EXPW, source)
        return list(records.values()), drops


def _lacks(source: sources.Source) -> str:
    missing = [] if _find_list(source) else [names.LIST]
    if not sources.pictures_in(source, pictures.ENDINGS):
        missing.append("the photographs (origin/*.jpg)")
    return " and ".join(missing)


def _find_list(source: sources.Source) -> str | None:
    return next(iter(sources.find(source, names.LIST.replace(".", r"\."))), None)


def _strata(lines: Sequence[names.Line]) -> dict[str, str]:
    """Each photograph's rarest emotion: fear has 1,088 faces of 91,793."""
    rarity = dict(zip(labels.EXPW, names.COUNTS, strict=True))
    strata: dict[str, str] = {}
    for line in lines:
        rarest = strata.setdefault(line.photo, line.label)
        strata[line.photo] = min(rarest, line.label, key=rarity.__getitem__)
    return strata


def _fault(line: names.Line, file: str | None, records: Mapping[str, manual.Record]) -> str:
    if file is None:
        return NO_PHOTO
    if min(line.box[2:]) <= 0:
        return NO_AREA
    return LISTED_TWICE if line.id in records else ""


def _record(line: names.Line, file: str, stratum: str) -> manual.Record:
    return manual.Record(
        id=line.id,
        file=file,
        label=line.label,
        subject=PurePosixPath(line.photo).stem,
        stratum=stratum,
        face_box=line.box,
        extras={"confidence": line.confidence},
    )


def _check_missing(source: sources.Source, drops: Sequence[crops.Drop], kept: int) -> None:
    missing = [drop.file for drop in drops if drop.reason == NO_PHOTO]
    if len(missing) > max(manual.MAX_UNREADABLE, _MISSING_SHARE * (kept + len(drops))):
        raise errors.UserError(
            f"expected the photographs that {names.LIST} names in {source.path}, found none for "
            f"{len(missing):,} faces: {manual.some(missing)}. A part of the archive is not "
            "unpacked."
        )
