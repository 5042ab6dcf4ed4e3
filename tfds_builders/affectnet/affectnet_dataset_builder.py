"""TFDS builder of AffectNet, the manually annotated part: about 290,000 faces from the web.

Reads the csv lists with face boxes, or the smaller release of face crops with npy
annotations (Mollahosseini et al., 2017), or copies in class folders. Reports test on the set's
validation part, because its test part is not published; our validation split comes out of train.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces.crop import FaceCrop
from tfds_builders import copies, crops, manual, protocols, sources, tables
from tfds_builders.affectnet import names

HOW_TO_GET = copies.how_to_get(
    "affectnet",
    """\
To get AffectNet: request it at http://mohammadmahoor.com/affectnet (professors only, for
non-commercial use). You receive the images with training.csv and validation.csv, or the folders
train_set and val_set. Unpack rar archives, put everything into one folder and run (copies in
class folders, train/0/ to val/7/ or train/happy/ ..., are read too):""",
)
NO_IMAGE = "image missing"
NO_LABEL = "label file missing"
LISTED_TWICE = "listed twice"
_ARCHIVES = r".*(affect|manual|train|val).*\.(zip|tar)"
_WHOLE = (0, 0, 10**6, 10**6)  # clipped to the image: images of the npy layout are face crops
_SEVEN = labels.AFFECTNET[:7]


def split_as_published(rows: Sequence[protocols.Row], seed: int) -> Mapping[str, str]:
    """Tests on the validation part, or on the test folder that some copies have."""
    has_test = any(row.split == protocols.TEST for row in rows)
    test = protocols.TEST if has_test else protocols.VALIDATION
    return protocols.official(rows, seed, validation=0.05, test=test)


class Builder(manual.ManualBuilder):
    """AffectNet, with its validation part as the test split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="Faces cropped by the set's boxes, or the set's own crops.",
            crop=FaceCrop(margin=0.0, method="shipped"),
        ),
    ]
    LABEL_NAMES = labels.AFFECTNET
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        name: protocols.Protocol(
            name,
            f"{count} expressions; tests on AffectNet's validation part, validates on 5 % of "
            "train.",
            classes,
            split_as_published,
            note="the test split is AffectNet's validation part, as in published results, unless "
            "the copy has a test folder; people are not identified",
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
        """Valence and arousal from -1 to 1; -2 if the set has none."""
        scalar = tfds.features.Scalar(dtype=np.float32)
        return {"valence": scalar, "arousal": scalar}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens either layout in or below `manual_dir`."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`. Reads row by row; a record takes about 1 kB."""
        rows = _ROWS[_layout(source)](source)
        by_id: dict[str, manual.Record] = {}
        drops = []
        for row in rows:
            if isinstance(row, crops.Drop):
                drops.append(row)
            elif row.id in by_id:
                drops.append(crops.Drop(row.id, row.file, LISTED_TWICE, row.label))
            else:
                by_id[row.id] = row
        order = protocols.SPLITS.index
        records = sorted(by_id.values(), key=lambda record: order(record.split))
        missing = [drop.file for drop in drops if drop.reason in (NO_IMAGE, NO_LABEL)]
        listed = len(records) + len(drops)
        copies.check_missing(missing, listed, "an image and a label for every entry", source)
        # Many copies in class folders have no contempt: the protocol "seven".
        in_folders = _layout(source) == "folders"
        copies.check_classes(records, _SEVEN if in_folders else labels.AFFECTNET, source)
        return records, drops


def _lacks(source: sources.Source) -> str:
    layout = _layout(source)
    if layout == "folders":
        splits = {split for split, _ in names.by_class(source.sizes()).values()}
        complete = protocols.TRAIN in splits and len(splits) > 1
        return "" if complete else "AffectNet's train and val folders"
    if layout == "npy":
        splits = {PurePosixPath(file).parts[-3] for file in source.sizes() if names.is_crop(file)}
        missing = sorted(set(names.FOLDERS.values()) - splits)
        return f"AffectNet's {', '.join(missing)}/images" if missing else ""
    present = names.tables_among(source.sizes())
    missing = [table for split, table in names.TABLES.items() if split not in present]
    if not any(map(names.is_image, source.sizes())):
        missing.append("Manually_Annotated_Images")
    return f"AffectNet's {' and '.join(missing)}" if missing else ""


def _layout(source: sources.Source) -> str:
    """Returns "npy", "tables" or "folders"."""
    if any(map(names.is_crop, source.sizes())):
        return "npy"
    has_tables = bool(names.tables_among(source.sizes()))
    return "tables" if has_tables or not names.by_class(source.sizes()) else "folders"


def _rows_of_tables(source: sources.Source) -> Iterator[manual.Record | crops.Drop]:
    files = {names.key(file): file for file in source.sizes() if names.is_image(file)}
    for split, table in names.tables_among(source.sizes()).items():
        for line, row in tables.rows(source, table, names.COLUMNS, no_header=True):
            path, *box, landmarks, code, valence, arousal = row
            if code in names.UNUSED:
                yield crops.Drop(path, path, f"no expression: {names.UNUSED[code]}", f"code {code}")
            elif (file := files.get(names.key(path))) is None:
                yield crops.Drop(path, path, NO_IMAGE, "")
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
            image_id = f"{folder}/{PurePosixPath(file).stem}"
            if names.annotation(file, "exp") not in files:
                yield crops.Drop(image_id, file, NO_LABEL, "")
                continue
            code = str(int(_scalar(source, file, "exp")))
            if code in names.UNUSED:
                reason = f"no expression: {names.UNUSED[code]}"
                yield crops.Drop(image_id, file, reason, f"code {code}")
                continue
            yield manual.Record(
                id=image_id,
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


def _rows_of_folders(source: sources.Source) -> Iterator[manual.Record | crops.Drop]:
    for file, (split, folder) in names.by_class(source.sizes()).items():
        image_id = f"{split}/{folder.lower()}/{PurePosixPath(file).stem}"
        if folder in names.UNUSED:
            reason = f"no expression: {names.UNUSED[folder]}"
            yield crops.Drop(image_id, file, reason, f"folder {folder}")
            continue
        yield manual.Record(
            id=image_id,
            file=file,
            label=names.CODES.get(folder) or labels.named(folder) or "",
            subject="",
            split=split,
            face_box=_WHOLE,
            extras={"valence": -2.0, "arousal": -2.0},
        )


_ROWS = {"npy": _rows_of_npy, "tables": _rows_of_tables, "folders": _rows_of_folders}


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


def _scalar(source: sources.Source, image: str, kind: str) -> float:
    """An annotation of an image; -2, the set's own code, if valence or arousal has no file."""
    file = names.annotation(image, kind)
    if kind != "exp" and file not in source.sizes():
        return -2.0
    try:
        return float(names.parse_npy(source.read(file)).reshape(-1)[0])
    except (ValueError, IndexError, sources.MemberError) as error:
        raise errors.UserError(
            f"expected a number in {file} in {source.path}, found none ({error}). Get the "
            "annotations again."
        ) from error


def _landmarks(source: sources.Source, image: str) -> np.ndarray | None:
    file = names.annotation(image, "lnd")
    if file not in source.sizes():
        return None
    try:
        return names.five_landmarks(names.parse_npy(source.read(file)))
    except (ValueError, sources.MemberError):
        return None  # landmarks are optional, so a damaged file loses no face
