"""Parses AM-FED+'s action unit labels: change points in seconds, agreement in percent.

Each row is valid until the next. The set of columns, and the names of some, differ between
files. facs.py derives emotions from the units.
"""

from __future__ import annotations

import bisect
import csv
import dataclasses
import io
import math
from collections.abc import Mapping

import numpy as np

from fer_jax import errors

TIME = "Time"
SMILE = "Smile"
TRACKER_FAIL = "Trackerfail"
EXPRESSIVE = "Expressive"

COLUMNS: tuple[str, ...] = (
    SMILE, "AU02", "AU04", "AU05", "AU09", "AU10", "AU12", "AU14", "AU15", "AU17", "AU18", "AU26",
    "negAU12", "Unilateral_LAU12", "Unilateral_RAU12", "Unilateral_LAU14", "Unilateral_RAU14",
    EXPRESSIVE, TRACKER_FAIL, "AU57", "AU58",
)  # fmt: skip
"""Every column besides the time, by the name used here."""

_SIDES = {f"Unilateral_{side}AU{unit}": f"AU{unit}{side}" for side in "LR" for unit in (12, 14)}
_NOT_SHOWN = (EXPRESSIVE, TRACKER_FAIL, "AU57", "AU58")  # no units, and moves of the whole head

UNITS: Mapping[str, str] = {
    column: _SIDES.get(column, column) for column in COLUMNS if column not in _NOT_SHOWN
}
"""Column to FACS name (AU12L for Unilateral_LAU12) of the codes that a cropped face can show."""

ALIASES: dict[str, str] = {
    "Au17": "AU17",
    "Au26": "AU26",
    "Forward": "AU57",
    "57": "AU57",
    "Backward": "AU58",
    "58": "AU58",
}
"""Other column names in files of the set."""

_NAMES = {name.casefold(): name for name in (TIME, *COLUMNS)} | {
    alias.casefold(): name for alias, name in ALIASES.items()
}


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of one video.

    Attributes:
      times: change points in seconds, ascending; empty if the video has no labels.
      agreement: for each change point, column name to percent of the coders, for the
        columns of the file.
    """

    times: tuple[float, ...]
    agreement: tuple[Mapping[str, float], ...]

    def row_at(self, time: float) -> int:
        """The row that is valid at `time` (seconds); -1 before the first change point."""
        return bisect.bisect_right(self.times, time) - 1

    def units(self, time: float) -> np.ndarray:
        """The share of the coders that saw each of `UNITS`, float32[U]; NaN where not labeled.

        A column that the file lacks is 0, as in facs.py.
        """
        row = self.row_at(time)
        if row < 0:
            return np.full(len(UNITS), np.nan, np.float32)
        found = self.agreement[row]
        return np.array([found.get(column, 0.0) / 100 for column in UNITS], np.float32)


def parse(text: str, name: str) -> Labels:
    """Parses a label file.

    Args:
      text: content of the file.
      name: name of the file, for messages.

    Raises:
      errors.UserError: The header is unknown, a value is not a percentage, or a time is
        not a number.
    """
    if not text.strip():
        return Labels((), ())
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    columns = _columns(next(rows, []), name)
    parsed = [
        _values(row, columns, f"{name}, line {rows.line_num}")
        for row in rows
        if any(cell.strip() for cell in row)
    ]
    parsed.sort(key=lambda row: row[0])
    return Labels(tuple(time for time, _ in parsed), tuple(values for _, values in parsed))


def _columns(header: list[str], name: str) -> list[str]:
    columns = [_NAMES.get(cell.strip().casefold(), "") for cell in header]
    unknown = [cell.strip() for cell, column in zip(header, columns, strict=True) if not column]
    repeated = sorted({one for one in columns if one and columns.count(one) > 1})
    if TIME not in columns or len(columns) < 2 or unknown or repeated:
        details = f"; unknown {unknown}" * bool(unknown) + f"; twice {repeated}" * bool(repeated)
        raise errors.UserError(
            f"expected AM-FED+'s header in {name} ({TIME}, then some of {', '.join(COLUMNS)}), "
            f"found {','.join(header)[:200]}{details}. Restore the original file."
        )
    return columns


def _values(row: list[str], columns: list[str], where: str) -> tuple[float, dict[str, float]]:
    """Time and agreement of one row; an empty cell is 0."""
    if len(row) != len(columns):
        raise errors.UserError(
            f"expected {len(columns)} values as in the header, found {len(row)} in {where}. "
            "Restore the original file."
        )
    values = {column: _number(cell, where) for column, cell in zip(columns, row, strict=True)}
    time = values.pop(TIME)
    wrong = [f"{one} {value:g}" for one, value in values.items() if not 0.0 <= value <= 100.0]
    if wrong or time < 0.0:
        raise errors.UserError(
            f"expected times of at least 0 s and percentages from 0 to 100, found "
            f"{', '.join(wrong) or f'time {time:g}'} in {where}. Restore the original file."
        )
    return time, values


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell.strip() or 0.0)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise errors.UserError(
            f"expected numbers, found {cell.strip()!r} in {where}. Restore the original file."
        )
    return value
