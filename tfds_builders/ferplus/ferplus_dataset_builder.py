"""TFDS builder of FER+: the images of FER2013, labeled by the votes of ten people.

FER+ (Barsoum et al., 2016) ships votes without images. They label the rows of FER2013's csv, or
the images that FER+'s own script makes of them (FER2013Train/fer0000000.png ...). The label is
the majority vote (votes.py); all votes are stored with each record.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from tfds_builders import copies, crops, manual, protocols, sources, splits
from tfds_builders.fer2013 import fer2013_dataset_builder as fer2013
from tfds_builders.fer2013 import names
from tfds_builders.ferplus import votes

HOW_TO_GET = copies.how_to_get(
    "ferplus",
    """\
To get FER+: download fer2013new.csv from https://github.com/microsoft/FERPlus. Put it beside the
fer2013.csv or fer2013.tar.gz whose rows it labels (see the set fer2013), or beside the folders
FER2013Train, FER2013Valid and FER2013Test that FER+'s own script makes of both, and run:""",
)
NO_IMAGE = "image missing"
NO_NAME = "excluded by FER+ (no image name)"
NO_MAJORITY = "no majority, or a majority for unknown"
NO_FACE = "no face, by majority"
_IMAGE = re.compile(r"fer\d{7}\.(png|jpe?g)", re.IGNORECASE)
_DROPPED = {votes.UNKNOWN: NO_MAJORITY, votes.NO_FACE: NO_FACE}


class Builder(manual.ManualBuilder):
    """FER2013's images and splits, with FER+'s majority labels."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = fer2013.Builder.BUILDER_CONFIGS
    LABEL_NAMES = labels.FERPLUS
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        name: dataclasses.replace(protocol, label_names=labels.FERPLUS)
        for name, protocol in fer2013.Builder.PROTOCOLS.items()
    }
    EXPECTED = sum(names.expected().values())
    GROUP = ""
    VOTES = votes.CHOICES
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """The ten votes, in the order of `votes.CHOICES`."""
        return {"votes": tfds.features.Tensor(shape=(len(votes.CHOICES),), dtype=np.int32)}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens both tables in or below `manual_dir`."""
        return copies.open_copy(manual_dir, f"{names.ARCHIVES}|.*fer.?plus.*", _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`. Holds the pixels of a csv in memory: 83 MB for a complete copy."""
        records, drops = [], []
        has_table = names.find_table(source.sizes()) is not None
        for voted in _join(source) if has_table else _join_images(source):
            choice = votes.majority(voted.votes)
            reason = _DROPPED.get(choice, "") if voted.name else NO_NAME
            if reason or not voted.file:
                text = ", ".join(map(str, voted.votes))
                drops.append(crops.Drop(voted.id, voted.name or votes.TABLE, reason or NO_IMAGE,
                                        f"votes {text}"))  # fmt: skip
            else:
                records.append(_record(voted, choice))
        missing = [drop.file for drop in drops if drop.reason == NO_IMAGE]
        listed = len(records) + len(drops)
        copies.check_missing(missing, listed, "an image for every row of votes", source)
        records.sort(key=lambda record: protocols.SPLITS.index(record.split))
        copies.check_classes(records, labels.FERPLUS, source)
        return records, drops

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """The number of majority labels by split, compared with the published numbers."""
        del source
        labeled = collections.Counter(record.split for record in records)
        return {"majority": dict(labeled), "summary": [_compare(labeled)]}


@dataclasses.dataclass(frozen=True, eq=False)
class _Voted:
    """An image of FER2013 and its votes: the file is "" if missing, the name if excluded."""

    id: str
    split: str
    file: str
    name: str
    votes: tuple[int, ...]
    pixels: Callable[[], np.ndarray] | None = None


def _lacks(source: sources.Source) -> str:
    files = source.sizes()
    has_table = names.find_table(files) is not None
    has_images = any(map(_is_image, files))
    has_votes = _find_votes(source) or (has_images and not has_table and _folder_tables(source))
    missing = [] if has_votes else [votes.TABLE]
    if not has_table and not has_images:
        folders = any(map(names.is_image, files))
        hint = " (FER+ labels the rows of the csv; image folders do not preserve their order)"
        missing.append("FER2013's fer2013.csv" + hint * folders)
    return " and ".join(missing)


def _is_image(file: str) -> bool:
    return _IMAGE.fullmatch(PurePosixPath(file).name) is not None


def _folder_tables(source: sources.Source) -> dict[str, str]:
    """The label.csv of each split folder, and its split."""
    tables = sources.find(source, r"[^/]+/" + votes.FOLDER_TABLE.replace(".", r"\."))
    folder_of = {table: PurePosixPath(table).parent.name for table in tables}
    split_of = splits.by_folder(folder_of.values())
    return {table: split_of[name] for table, name in folder_of.items() if name in split_of}


def _find_votes(source: sources.Source) -> str | None:
    return next(iter(sources.find(source, votes.TABLE.replace(".", r"\."))), None)


def _join(source: sources.Source) -> Iterator[_Voted]:
    """Yields the rows of the csv; `UserError` if the tables' rows do not match."""
    table, vote_table = names.find_table(source.sizes()), _find_votes(source)
    assert table is not None  # `_lacks` has checked both
    assert vote_table is not None
    with (
        contextlib.closing(names.read_table(source, table)) as rows,
        contextlib.closing(votes.read(source, vote_table)) as cast,
    ):
        for number, (row, vote) in enumerate(itertools.zip_longest(rows, cast)):
            if row is None or vote is None or row.usage != vote[0]:
                found = "no row" if row is None else row.usage
                other = "no row" if vote is None else vote[0]
                raise errors.UserError(
                    f"expected the same rows in {table} and {vote_table} in {source.path}, found "
                    f"{found} and {other} in row {number}, counted from 0. One of them was sorted "
                    "or truncated: get it again."
                )
            yield _Voted(row.id, names.USAGES[row.usage], table, vote[1], vote[2], row.pixels)


def _join_images(source: sources.Source) -> Iterator[_Voted]:
    """Yields the images that FER+'s own script makes; fer2013new.csv before the label.csv's."""
    files = {PurePosixPath(file).name.lower(): file for file in source.sizes() if _is_image(file)}
    vote_table = _find_votes(source)
    rows = (
        [(names.USAGES[usage], name, cast) for usage, name, cast in votes.read(source, vote_table)]
        if vote_table
        else [
            (split, name, cast)
            for table, split in _folder_tables(source).items()
            for name, cast in votes.read_folder(source, table)
        ]
    )
    for number, (split, name, cast) in enumerate(rows):
        record_id = PurePosixPath(name).stem.lower() or f"{split}_{number:05d}"
        yield _Voted(record_id, split, files.get(name.lower(), ""), name, cast)


def _record(voted: _Voted, label: str) -> manual.Record:
    return manual.Record(
        id=voted.id,
        file=voted.file,
        label=label,
        subject="",
        split=voted.split,
        extras={"votes": np.array(voted.votes, np.int32)},
        pixels=voted.pixels,
    )


def _compare(labeled: Mapping[str, int]) -> str:
    actual = "/".join(f"{labeled.get(split, 0):,}" for split in votes.MAJORITY_COUNTS)
    published = "/".join(f"{number:,}" for number in votes.MAJORITY_COUNTS.values())
    if dict(labeled) == votes.MAJORITY_COUNTS:
        return f"{actual} images with a majority label, exactly as published"
    return f"{actual} images with a majority label; a complete copy has {published}"
