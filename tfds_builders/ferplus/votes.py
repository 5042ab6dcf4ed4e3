"""FER+'s votes and its majority rule (Barsoum et al., ICMI 2016; the code beside the labels).

Ten people each chose one of eight emotions, "unknown" or "no face" (NF).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fer_jax import errors, labels
from tfds_builders import protocols, sources, tables
from tfds_builders.fer2013 import names

TABLE = "fer2013new.csv"
UNKNOWN, NO_FACE = "unknown", "NF"
CHOICES: tuple[str, ...] = (*labels.FERPLUS, UNKNOWN, NO_FACE)
"""What a vote may be for, in the order of the table's columns."""

COLUMNS = ("Usage", "Image name", *CHOICES)
KEPT: dict[str, int] = {
    protocols.TRAIN: 25_060,
    protocols.VALIDATION: 3_199,
    protocols.TEST: 3_153,
}
"""What the rule keeps of a whole copy."""


def majority(votes: Sequence[int]) -> str:
    """The choice that ten votes amount to.

    A choice with one vote counts as none; of what is left, the winner needs more than
    half, else nobody knows.

    Args:
      votes: One number for each of `CHOICES`.

    Returns:
      One of `CHOICES`.
    """
    counted = [number if number > 1 else 0 for number in votes]
    most = max(counted)
    return CHOICES[counted.index(most)] if 2 * most > sum(counted) else UNKNOWN


def read(source: sources.Source, table: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Usage, name ("" where FER+ has left the picture out) and votes of every row.

    Raises:
      errors.UserError: A row's usage or votes are none.
    """
    for line, (usage, name, *votes) in tables.rows(source, table, COLUMNS):
        if usage not in names.USAGES or not all(vote.isdecimal() for vote in votes):
            raise errors.UserError(
                f"expected a Usage of {', '.join(names.USAGES)} and {len(CHOICES)} numbers of "
                f"votes in line {line} of {table} in {source.path}, found {usage!r} and "
                f"{', '.join(votes)}. Use the file as its publisher sent it."
            )
        yield usage, name, tuple(map(int, votes))
