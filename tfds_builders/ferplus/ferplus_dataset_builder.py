"""TFDS builder of FER+: the rows of FER2013's csv, labeled by the votes of ten people.

FER+ (Barsoum et al., 2016) ships votes without images. The label is the majority vote
(votes.py); all votes are stored with each record.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.fer2013 import fer2013_dataset_builder as fer2013
from tfds_builders.fer2013 import names
from tfds_builders.ferplus import votes

HOW_TO_GET = copies.how_to_get(
    "ferplus",
    """\
To get FER+: download fer2013new.csv from https://github.com/microsoft/FERPlus. Put it beside the
fer2013.csv or fer2013.tar.gz whose rows it labels (see the set fer2013), and run:""",
)
NO_NAME = "excluded by FER+ (no image name)"
NO_MAJORITY = "no majority, or a majority for unknown"
NO_FACE = "no face, by majority"
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
        """See `ManualBuilder`. Holds the pixels in memory: 83 MB for a complete copy."""
        records, drops = [], []
        for row, name, counts in _join(source):
            choice = votes.majority(counts)
            reason = _DROPPED.get(choice, "") if name else NO_NAME
            if reason:
                text = ", ".join(map(str, counts))
                drops.append(crops.Drop(row.id, votes.TABLE, reason, f"votes {text}"))
            else:
                records.append(_record(row, choice, counts, source))
        copies.check_classes(records, labels.FERPLUS, source)
        return records, drops

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """The number of majority labels by split, compared with the published numbers."""
        del source
        labeled = collections.Counter(record.split for record in records)
        return {"majority": dict(labeled), "summary": [_compare(labeled)]}


def _lacks(source: sources.Source) -> str:
    files = source.sizes()
    missing = [] if _find_votes(source) else [votes.TABLE]
    if names.find_table(files) is None:
        folders = any(map(names.is_image, files))
        hint = " (FER+ labels the rows of the csv; image folders do not preserve their order)"
        missing.append("FER2013's fer2013.csv" + hint * folders)
    return " and ".join(missing)


def _find_votes(source: sources.Source) -> str | None:
    return next(iter(sources.find(source, votes.TABLE.replace(".", r"\."))), None)


def _join(source: sources.Source) -> Iterator[tuple[names.CsvRow, str, tuple[int, ...]]]:
    """Yields row, image name and votes; `UserError` if the tables' rows do not match."""
    table, vote_table = names.find_table(source.sizes()), _find_votes(source)
    assert table is not None  # `_lacks` has checked both
    assert vote_table is not None
    pairs = itertools.zip_longest(names.read_table(source, table), votes.read(source, vote_table))
    for number, (row, vote) in enumerate(pairs):
        if row is None or vote is None or row.usage != vote[0]:
            found = "no row" if row is None else row.usage
            other = "no row" if vote is None else vote[0]
            raise errors.UserError(
                f"expected the same rows in {table} and {vote_table} in {source.path}, found "
                f"{found} and {other} in row {number}, counted from 0. One of them was sorted "
                "or truncated: get it again."
            )
        yield row, vote[1], vote[2]


def _record(
    row: names.CsvRow, label: str, counts: tuple[int, ...], source: sources.Source
) -> manual.Record:
    return manual.Record(
        id=row.id,
        file=names.find_table(source.sizes()) or "",
        label=label,
        subject="",
        split=names.USAGES[row.usage],
        extras={"votes": np.array(counts, np.int32)},
        pixels=row.pixels,
    )


def _compare(labeled: Mapping[str, int]) -> str:
    actual = "/".join(f"{labeled.get(split, 0):,}" for split in votes.MAJORITY_COUNTS)
    published = "/".join(f"{number:,}" for number in votes.MAJORITY_COUNTS.values())
    if dict(labeled) == votes.MAJORITY_COUNTS:
        return f"{actual} images with a majority label, exactly as published"
    return f"{actual} images with a majority label; a complete copy has {published}"
