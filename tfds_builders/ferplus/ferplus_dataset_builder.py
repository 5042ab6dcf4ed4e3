"""FER+: FER2013's csv joined with the votes of ten people on each picture.

The label is the majority's (votes.py); all votes are kept with each record. FER+ has no
pictures of its own (Barsoum et al., 2016). What is common to all sets that the user
brings is in tfds_builders/manual.py.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces import detect as faces
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.fer2013 import names
from tfds_builders.ferplus import votes

HOW_TO_GET = copies.how_to_get(
    "ferplus",
    """\
To get FER+: fer2013new.csv is at https://github.com/microsoft/FERPlus. Put it beside FER2013's
fer2013.csv or fer2013.tar.gz (see the set fer2013), whose rows it labels, and name the folder:""",
)
NO_NAME = "left out by FER+ (no image name)"
NO_MAJORITY = "unknown: no emotion has the majority"
NO_FACE = "no face by majority"
_DROPPED = {votes.UNKNOWN: NO_MAJORITY, votes.NO_FACE: NO_FACE}


class Builder(manual.ManualBuilder):
    """FER2013's pictures and splits with FER+'s majority labels."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="FER2013's own cuts of 48 x 48 pixels, without loss.",
            crop=faces.FaceCrop(margin=0.0, method="keep"),
            lossless=True,
        ),
    ]
    LABEL_NAMES = labels.FERPLUS
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "official": protocols.Protocol(
            "official",
            "FER2013's splits: Training, PublicTest as validation, PrivateTest as test.",
            labels.FERPLUS,
            protocols.stored,
            note="who is in a picture is not known: people may be in several splits",
        ),
    }
    EXPECTED = sum(names.expected().values())
    GROUP = ""
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def extra_features(self) -> dict[str, Any]:
        """The ten votes, in the order of `votes.CHOICES`."""
        return {"votes": tfds.features.Tensor(shape=(len(votes.CHOICES),), dtype=np.int32)}

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Both tables in or below `manual_dir`."""
        return copies.open_copy(manual_dir, f"{names.ARCHIVES}|.*fer.?plus.*", _lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`; the pixels stay in memory, 83 MB of a whole copy."""
        records, drops = [], []
        for row, name, cast in _join(source):
            choice = votes.majority(cast)
            reason = _DROPPED.get(choice, "") if name else NO_NAME
            if reason:
                text = ", ".join(map(str, cast))
                drops.append(crops.Drop(row.id, votes.TABLE, reason, f"votes {text}"))
            else:
                records.append(_record(row, choice, cast, source))
        copies.check_classes(records, labels.FERPLUS, source)
        return records, drops

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """Whether the majority rule kept of a whole copy what is published."""
        del source
        kept = collections.Counter(record.split for record in records)
        return {"majority": dict(kept), "summary": [_compare(kept)]}


def _lacks(source: sources.Source) -> str:
    files = source.sizes()
    missing = [] if _find_votes(source) else [votes.TABLE]
    if names.find_table(files) is None:
        folders = any(map(names.is_picture, files))
        why = " (FER+ labels the rows of the csv; folders of pictures have lost their order)"
        missing.append("FER2013's fer2013.csv" + why * folders)
    return " and ".join(missing)


def _find_votes(source: sources.Source) -> str | None:
    return next(iter(sources.find(source, votes.TABLE.replace(".", r"\."))), None)


def _join(source: sources.Source) -> Iterator[tuple[names.CsvRow, str, tuple[int, ...]]]:
    """Both tables row by row; `UserError` where they are not of one order."""
    table, vote_table = names.find_table(source.sizes()), _find_votes(source)
    assert table is not None  # `_lacks` saw both
    assert vote_table is not None
    pairs = itertools.zip_longest(names.read_table(source, table), votes.read(source, vote_table))
    for number, (row, vote) in enumerate(pairs):
        if row is None or vote is None or row.usage != vote[0]:
            found = "no row" if row is None else row.usage
            other = "no row" if vote is None else vote[0]
            raise errors.UserError(
                f"expected the same rows in {table} and {vote_table} in {source.path}, found "
                f"{found} and {other} at number {number}, counted from 0. One of them was sorted "
                "or cut: get it again."
            )
        yield row, vote[1], vote[2]


def _record(
    row: names.CsvRow, label: str, cast: tuple[int, ...], source: sources.Source
) -> manual.Record:
    return manual.Record(
        id=row.id,
        file=names.find_table(source.sizes()) or "",
        label=label,
        subject="",
        split=names.USAGES[row.usage],
        extras={"votes": np.array(cast, np.int32)},
        pixels=row.pixels,
    )


def _compare(kept: Mapping[str, int]) -> str:
    mine = "/".join(f"{kept.get(split, 0):,}" for split in votes.KEPT)
    published = "/".join(f"{number:,}" for number in votes.KEPT.values())
    if dict(kept) == votes.KEPT:
        return f"the majority rule keeps {mine}, exactly as published"
    return f"the majority rule keeps {mine}; of a whole copy it is {published}: this one differs"
