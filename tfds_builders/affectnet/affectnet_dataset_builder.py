"""AffectNet's manually labelled part: eight expressions, or seven without contempt.

About 290,000 usable faces (Mollahosseini et al., 2017), from the lists with face boxes or
from the smaller release of face crops with an npy for each value. Its validation part is
what the field tests on, so validation comes out of train. What is common to all sets
that the user brings is in tfds_builders/manual.py.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces import detect as faces
from tfds_builders import copies, crops, manual, protocols, sources, tables
from tfds_builders.affectnet import names

HOW_TO_GET = copies.how_to_get(
    "affectnet",
    """\
To get AffectNet: ask for it at http://mohammadmahoor.com/affectnet (professors only, not
commercial); you are sent the pictures and either training.csv and validation.csv or the folders
train_set and val_set. Unpack rar parts, put all into a folder and name that:""",
)
NO_PICTURE = "its picture is missing"
NO_LABEL = "it has no label file"
LISTED_TWICE = "listed twice"
_ARCHIVES = r".*(affect|manual|train|val).*\.(zip|tar)"
_WHOLE = (0, 0, 10**6, 10**6)  # clipped to the picture: the npy form is cut to the face
_MISSING_SHARE = 0.01  # more is a missing part of the archive, not a missing picture
_SEVEN = labels.AFFECTNET[:7]


class Builder(manual.ManualBuilder):
    """AffectNet, tested on its validation part."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="The set's own face boxes, or its own cuts.",
            crop=faces.FaceCrop(margin=0.0, method="shipped"),
        ),
    ]
    LABEL_NAMES = labels.AFFECTNET
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        name: protocols.Protocol(
            name,
            f"{count} expressions; tested on the validation part, 5 % of train validate.",
            classes,
            functools.partial(protocols.official, validation=0.05, test=protocols.VALIDATION),
            note="the test split is AffectNet's validation part, as everywhere in the field; who "
            "is in a picture is not known",
        )
        for name, count, classes in (
            ("official", "Eight", labels.AFFECTNET),
            ("seven", "Seven", _SEVEN),
        )
    }
    EXPECTED: ClassVar[Mapping[str, int]] = {
        split: sum(counts) for split, counts in names.COUNTS.items()
    }
    GROUP = ""
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """Valence and arousal, -1 to 1; -2 where the set has none."""
        scalar = tfds.features.Scalar(dtype=np.float32)
        return {"valence": scalar, "arousal": scalar}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Either form in or below `manual_dir`."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`; rows are read one by one, a record takes about a kilobyte."""
        rows = _rows_of_npy(source) if _is_npy(source) else _rows_of_tables(source)
        records: dict[str, manual.Record] = {}
        drops = []
        for one in rows:
            if isinstance(one, manual.Record) and one.id not in records:
                records[one.id] = one
            elif isinstance(one, manual.Record):
                drops.append(crops.Drop(one.id, one.file, LISTED_TWICE, one.label))
            else:
                drops.append(one)
        _check_missing(source, drops, len(records))
        found = list(records.values())
        copies.check_classes(found, labels.AFFECTNET, source)
        return found, drops


def _lacks(source: sources.Source) -> str:
    if _is_npy(source):
        splits = {PurePosixPath(file).parts[-3] for file in source.sizes() if names.is_crop(file)}
        missing = sorted(set(names.FOLDERS.values()) - splits)
        return f"AffectNet's {', '.join(missing)}/images" if missing else ""
    tables_there = names.tables_among(source.sizes())
    missing = [table for split, table in names.TABLES.items() if split not in tables_there]
    if not any(map(names.is_picture, source.sizes())):
        missing.append("Manually_Annotated_Images")
    return f"AffectNet's {' and '.join(missing)}" if missing else ""


def _is_npy(source: sources.Source) -> bool:
    return any(map(names.is_crop, source.sizes()))


def _rows_of_tables(source: sources.Source) -> Iterator[manual.Record | crops.Drop]:
    files = {names.key(file): file for file in source.sizes() if names.is_picture(file)}
    for split, table in names.tables_among(source.sizes()).items():
        for line, row in tables.rows(source, table, names.COLUMNS, no_header=True):
            path, *box, landmarks, code, valence, arousal = row
            if code in names.UNUSED:
                yield crops.Drop(path, path, f"no expression: {names.UNUSED[code]}", f"code {code}")
            elif (file := files.get(names.key(path))) is None:
                yield crops.Drop(path, path, NO_PICTURE, "")
            else:
                yield manual.Record(
                    id=str(PurePosixPath(names.key(path)).with_suffix("")),
                    file=file,
                    label=_label(source, table, line, code),
                    subject="",
                    split=sys.intern(split),
                    face_box=names.parse_box(box),
                    landmarks=names.parse_landmarks(landmarks),
                    extras=_values(source, table, line, valence, arousal),
                )


def _rows_of_npy(source: sources.Source) -> Iterator[manual.Record | crops.Drop]:
    files = source.sizes()
    for split, folder in names.FOLDERS.items():
        for file in files:
            if not names.is_crop(file) or PurePosixPath(file).parts[-3] != folder:
                continue
            one = f"{folder}/{PurePosixPath(file).stem}"
            if names.annotation(file, "exp") not in files:
                yield crops.Drop(one, file, NO_LABEL, "")
                continue
            code = str(int(_scalar(source, file, "exp")))
            if code in names.UNUSED:
                yield crops.Drop(one, file, f"no expression: {names.UNUSED[code]}", f"code {code}")
                continue
            yield manual.Record(
                id=one,
                file=file,
                label=_label(source, names.annotation(file, "exp"), 1, code),
                subject="",
                split=split,
                face_box=_WHOLE,
                landmarks=_landmarks(source, file),
                extras={
                    "valence": _scalar(source, file, "val"),
                    "arousal": _scalar(source, file, "aro"),
                },
            )


def _label(source: sources.Source, file: str, line: int, code: str) -> str:
    if code not in names.CODES:
        raise errors.UserError(
            f"expected an expression from 0 to 10 in line {line} of {file} in {source.path}, found "
            f"{code[:20]!r}. Use the file as its publisher sent it."
        )
    return names.CODES[code]


def _values(
    source: sources.Source, table: str, line: int, valence: str, arousal: str
) -> dict[str, float]:
    try:
        return {"valence": float(valence), "arousal": float(arousal)}
    except ValueError as error:
        raise errors.UserError(
            f"expected numbers for valence and arousal in line {line} of {table} in {source.path}, "
            f"found {valence[:20]!r} and {arousal[:20]!r}. Use the file as its publisher sent it."
        ) from error


def _scalar(source: sources.Source, picture: str, what: str) -> float:
    """A picture's annotation; -2, the set's own mark, where valence or arousal has no file."""
    file = names.annotation(picture, what)
    if what != "exp" and file not in source.sizes():
        return -2.0
    try:
        return float(names.parse_npy(source.read(file)).reshape(-1)[0])
    except (ValueError, IndexError, sources.MemberError) as error:
        raise errors.UserError(
            f"expected a number in {file} in {source.path}, found none ({error}). Get the "
            "annotations again."
        ) from error


def _landmarks(source: sources.Source, picture: str) -> np.ndarray | None:
    file = names.annotation(picture, "lnd")
    if file not in source.sizes():
        return None
    try:
        return names.five_of(names.parse_npy(source.read(file)))
    except (ValueError, sources.MemberError):
        return None  # landmarks are an extra: a face without them is a face


def _check_missing(source: sources.Source, drops: Sequence[crops.Drop], kept: int) -> None:
    missing = [drop.file for drop in drops if drop.reason in (NO_PICTURE, NO_LABEL)]
    if len(missing) > max(manual.MAX_UNREADABLE, _MISSING_SHARE * (kept + len(drops))):
        raise errors.UserError(
            f"expected a picture and a label for every entry of {source.path}, found "
            f"{len(missing):,} without: {manual.some(missing)}. A part of the set is not unpacked."
        )
