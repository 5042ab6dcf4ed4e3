"""Stand-in for FER+: the stand-in for FER2013, and votes that cover every case of the rule.

At full scale, the label rule selects the published number of images. A CSV cannot carry a
mark; STAND_IN.txt in the folder marks it.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from tfds_builders.fer2013 import names
from tfds_builders.ferplus import votes
from tfds_builders.stand_ins import faces, fer2013

_SEED = 2016
_VOTES = 10
_RARE = 10  # a class with fewer faces loses none of them
_UNNAMED = {"Training": 139, "PublicTest": 17, "PrivateTest": 17}  # rows without a file name
_UNKNOWN, _NO_FACE = votes.CHOICES.index(votes.UNKNOWN), votes.CHOICES.index(votes.NO_FACE)


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return fer2013.count_images(scale)


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes both tables below `out`. Yields image counts."""
    yield from fer2013.write_table(out / "fer2013.csv", scale)
    lines = [",".join(votes.COLUMNS)]
    for usage in names.USAGES:
        rows = [row for row in fer2013.rows(scale) if row.usage == usage]
        lines += _lines(usage, rows, len(lines) - 1)
    faces.write_file(out / votes.TABLE, ("\n".join(lines) + "\n").encode("ascii"))


def _lines(usage: str, rows: Sequence[fer2013.Row], first: int) -> list[str]:
    """Lines of one usage; faces of a rare class always get a majority."""
    rng = np.random.default_rng([_SEED, first])
    share = votes.MAJORITY_COUNTS[names.USAGES[usage]] / sum(names.COUNTS[usage])
    counts = collections.Counter(row.shown for row in rows)
    rare = {shown for shown, count in counts.items() if count < _RARE}
    candidates = [number for number, row in enumerate(rows) if row.shown not in rare]
    unlabeled = rng.permutation(candidates)[: len(rows) - round(len(rows) * share)]
    unnamed = max(1, round(_UNNAMED[usage] * len(rows) / sum(names.COUNTS[usage])))
    lines = []
    positions = {int(number): position for position, number in enumerate(unlabeled)}
    for number, row in enumerate(rows):
        position = positions.get(number)
        has_name = position is None or position >= unnamed
        name = f"fer{first + number:07d}.png" if has_name else ""
        cast = _majority(row.shown, rng) if position is None else _no_label(position, unnamed)
        lines.append(",".join([usage, name, *map(str, cast)]))
    return lines


def _majority(shown: str, rng: np.random.Generator) -> np.ndarray:
    """Six to ten votes for the emotion of the face, the rest at random."""
    cast = np.zeros(len(votes.CHOICES), np.int64)
    majority = int(rng.integers(6, _VOTES + 1))
    cast[labels.FERPLUS.index(shown)] = majority
    np.add.at(cast, rng.integers(0, len(votes.CHOICES), _VOTES - majority), 1)
    return cast


def _no_label(position: int, unnamed: int) -> np.ndarray:
    """Ten votes that give no label: "no face", a tie, no majority, or "unknown"."""
    cast = np.zeros(len(votes.CHOICES), np.int64)
    if position < unnamed or position % 4 == 0:
        cast[_NO_FACE] = _VOTES
    elif position % 4 == 1:
        cast[[0, 3]] = 5, 5  # a tie
    elif position % 4 == 2:
        cast[[0, 1, 2, 4]] = 4, 3, 2, 1  # 4 of 9: single votes do not count
    else:
        cast[[0, _UNKNOWN]] = 3, 7
    return cast
