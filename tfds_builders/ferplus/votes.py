"""FER+'s votes and its majority rule (Barsoum et al., ICMI 2016; code published with the labels).

Ten people each chose one of eight emotions, "unknown" or "no face" (NF).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from fer_jax import errors, labels
from tfds_builders import protocols, sources, tables
from tfds_builders.fer2013 import names

TABLE = "fer2013new.csv"
FOLDER_TABLE = "label.csv"  # beside the images of a split, as FER+'s own script writes them
UNKNOWN, NO_FACE = "unknown", "NF"
CHOICES: tuple[str, ...] = (*labels.FERPLUS, UNKNOWN, NO_FACE)
"""The choices of a vote, in the order of the table's columns."""

FOLDER_COLUMNS = ("Image name", "box", *CHOICES)
COLUMNS = ("Usage", "Image name", *CHOICES)
MAJORITY_COUNTS: dict[str, int] = {
    protocols.TRAIN: 25_060,
    protocols.VALIDATION: 3_199,
    protocols.TEST: 3_153,
}
"""Images with a majority label, by split, in a complete copy."""


def majority(votes: Sequence[int]) -> str:
    """Returns the majority choice: the one with more than half of the counted votes.

    A choice with a single vote is not counted.

    Args:
      votes: number of votes for each of `CHOICES`.

    Returns:
      One of `CHOICES`; `UNKNOWN` if none has a majority.
    """
    counted = [number if number > 1 else 0 for number in votes]
    most = max(counted)
    return CHOICES[counted.index(most)] if 2 * most > sum(counted) else UNKNOWN


def read(
    source: sources.Source, table: str
) -> Generator[tuple[str, str, tuple[int, ...]], None, None]:
    """Yields usage, image name ("" if FER+ excludes the image) and votes of every row.

    Raises:
      errors.UserError: A row has an invalid usage or invalid votes.
    """
    for line, (usage, name, *votes) in tables.rows(source, table, COLUMNS):
        if usage not in names.USAGES or not all(vote.isdecimal() for vote in votes):
            raise errors.UserError(
                f"expected a Usage of {', '.join(names.USAGES)} and {len(CHOICES)} numbers of "
                f"votes in line {line} of {table} in {source.path}, found {usage!r} and "
                f"{', '.join(votes)}. Use the file as its publisher sent it."
            )
        yield usage, name, tuple(map(int, votes))


def read_folder(source: sources.Source, table: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields image name and votes of every row of a split folder's label.csv.

    Raises:
      errors.UserError: A row has invalid votes.
    """
    rows = tables.rows(source, table, FOLDER_COLUMNS, no_header=True)
    for line, (name, _, *votes) in rows:
        if not all(vote.isdecimal() for vote in votes):
            raise errors.UserError(
                f"expected {len(CHOICES)} numbers of votes in line {line} of {table} in "
                f"{source.path}, found {', '.join(votes)}. Use the file as its publisher sent it."
            )
        yield name, tuple(map(int, votes))
