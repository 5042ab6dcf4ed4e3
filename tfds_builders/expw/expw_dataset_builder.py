"""TFDS builder of ExpW: 91,793 faces in photographs from the web, with face boxes.

Zhang et al., 2018. All faces of a photograph are in one split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import labels
from fer_jax.faces.crop import FaceCrop
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.expw import names

HOW_TO_GET = copies.how_to_get(
    "expw",
    """\
To get ExpW: see https://mmlab.ie.cuhk.edu.hk/projects/socialrelation (non-commercial use). You
receive label.lst and the photographs as image.7z.001, image.7z.002 and so on. Unpack these
(7z x image.7z.001), put label.lst beside the photographs or a zip of them, and run:""",
)
NO_PHOTO = "photograph missing"
NO_AREA = "empty box"
LISTED_TWICE = "listed twice"
_ARCHIVES = r".*(expw|image|origin|expression).*\.(zip|tar)"


class Builder(manual.ManualBuilder):
    """ExpW, split by photograph; faces are cropped by the set's boxes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="Faces cropped by the set's boxes, with a small margin.",
            crop=FaceCrop(method="shipped"),
        ),
    ]
    LABEL_NAMES = labels.EXPW
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "photo": protocols.Protocol(
            "photo",
            "Seven expressions; 70/15/15 % of the photographs, because the set has no splits.",
            labels.EXPW,
            protocols.by_group,
            note="people are not identified and may be in several splits",
        ),
    }
    EXPECTED = names.FACES
    GROUP = "photo"
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """Confidence of the face detector that the set's authors used."""
        return {"confidence": tfds.features.Scalar(dtype=np.float32)}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens label.lst and the photographs in or below `manual_dir`."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`. One record per face, so a photograph may be read several times."""
        photos = {
            PurePosixPath(file).name.lower(): file
            for file in sources.files_with_suffix(source, sources.IMAGE_SUFFIXES)
        }
        lines = list(names.read(source, _find_list(source) or ""))
        strata = _strata(lines)
        records: dict[str, manual.Record] = {}
        drops = []
        for line in lines:
            file = photos.get(line.photo.lower())
            reason = _drop_reason(line, file, records)
            if reason or file is None:
                drops.append(crops.Drop(line.id, file or line.photo, reason, f"box {line.box}"))
            else:
                records[line.id] = _record(line, file, strata[line.photo])
        missing = [drop.file for drop in drops if drop.reason == NO_PHOTO]
        listed = len(records) + len(drops)
        copies.check_missing(missing, listed, f"the photographs of {names.LIST}", source)
        copies.check_classes(list(records.values()), labels.EXPW, source)
        return list(records.values()), drops


def _lacks(source: sources.Source) -> str:
    missing = [] if _find_list(source) else [names.LIST]
    if not sources.files_with_suffix(source, sources.IMAGE_SUFFIXES):
        missing.append("the photographs (origin/*.jpg)")
    return " and ".join(missing)


def _find_list(source: sources.Source) -> str | None:
    return next(iter(sources.find(source, names.LIST.replace(".", r"\."))), None)


def _strata(lines: Sequence[names.Line]) -> dict[str, str]:
    """The rarest emotion in each photograph: only 1,088 of 91,793 faces show fear."""
    rarity = dict(zip(labels.EXPW, names.COUNTS, strict=True))
    strata: dict[str, str] = {}
    for line in lines:
        rarest = strata.setdefault(line.photo, line.label)
        strata[line.photo] = min(rarest, line.label, key=rarity.__getitem__)
    return strata


def _drop_reason(line: names.Line, file: str | None, records: Mapping[str, manual.Record]) -> str:
    """Why a line gives no record; "" if it does."""
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
