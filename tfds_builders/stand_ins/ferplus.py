"""A stand-in for FER+: FER2013's stand-in, and votes on it that reach every branch.

At full scale the rule keeps exactly what is published. The tables cannot carry a mark:
the folder's STAND_IN.txt says what they are.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from tfds_builders.fer2013 import names
from tfds_builders.ferplus import votes
from tfds_builders.stand_ins import faces as stand_in_faces
from tfds_builders.stand_ins import fer2013

_SEED = 2016
_VOTES = 10
_RARE = 10  # faces of a class, of which none is given up
_UNNAMED = {"Training": 139, "PublicTest": 17, "PrivateTest": 17}  # 173 rows without a name
_UNKNOWN, _NO_FACE = votes.CHOICES.index(votes.UNKNOWN), votes.CHOICES.index(votes.NO_FACE)


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    return fer2013.count_images(scale)


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes both tables below `out`; yields 1 a picture."""
    yield from fer2013.write_table(out / "fer2013.csv", scale)
    lines = [",".join(votes.COLUMNS)]
    for usage in names.USAGES:
        some = [row for row in fer2013.rows(scale) if row.usage == usage]
        lines += _lines(usage, some, len(lines) - 1)
    stand_in_faces.write_file(out / votes.TABLE, ("\n".join(lines) + "\n").encode("ascii"))


def _lines(usage: str, rows: Sequence[fer2013.Row], first: int) -> list[str]:
    """The rows of one usage; a rare class is never among those that nobody agrees on."""
    rng = np.random.default_rng([_SEED, first])
    share = votes.MAJORITY_COUNTS[names.USAGES[usage]] / sum(names.COUNTS[usage])
    counts = collections.Counter(row.shown for row in rows)
    rare = {shown for shown, count in counts.items() if count < _RARE}
    open_to_doubt = [number for number, row in enumerate(rows) if row.shown not in rare]
    doubted = rng.permutation(open_to_doubt)[: len(rows) - round(len(rows) * share)]
    unnamed = max(1, round(_UNNAMED[usage] * len(rows) / sum(names.COUNTS[usage])))
    lines = []
    kinds = {int(number): position for position, number in enumerate(doubted)}
    for number, row in enumerate(rows):
        position = kinds.get(number)
        has_name = position is None or position >= unnamed
        name = f"fer{first + number:07d}.png" if has_name else ""
        cast = _agreed(row.shown, rng) if position is None else _doubted(position, unnamed)
        lines.append(",".join([usage, name, *map(str, cast)]))
    return lines


def _agreed(shown: str, rng: np.random.Generator) -> np.ndarray:
    """Six to ten votes for what the face shows, the others anywhere."""
    cast = np.zeros(len(votes.CHOICES), np.int64)
    majority = int(rng.integers(6, _VOTES + 1))
    cast[labels.FERPLUS.index(shown)] = majority
    np.add.at(cast, rng.integers(0, len(votes.CHOICES), _VOTES - majority), 1)
    return cast


def _doubted(position: int, unnamed: int) -> np.ndarray:
    """Ten votes that give no label: no face, a tie, too little, or "unknown" itself."""
    cast = np.zeros(len(votes.CHOICES), np.int64)
    if position < unnamed or position % 4 == 0:
        cast[_NO_FACE] = _VOTES
    elif position % 4 == 1:
        cast[[0, 3]] = 5, 5  # a tie
    elif position % 4 == 2:
        cast[[0, 1, 2, 4]] = 4, 3, 2, 1  # 4 of 9, since the single vote counts as none
    else:
        cast[[0, _UNKNOWN]] = 3, 7
    return cast
