"""summary.csv: one row per validation, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from fer_jax import files
from fer_jax.errors import UserError

FILE = "summary.csv"
COLUMNS = (
    "step", "epoch", "seconds", "learning_rate",
    "train_loss", "train_accuracy", "train_balanced_accuracy",
    "validation_loss", "validation_accuracy", "validation_balanced_accuracy", "best",
)  # fmt: skip


class SummaryTable:
    """Rewrites the whole file for every row, so that a killed process leaves a complete file.

    Args:
      path: the file.
      first_step: step at which the run resumes; rows of later steps, which the run will write
        again, are dropped.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        self._path = path
        self._rows = [row for row in read(path) if int(row["step"]) <= first_step]

    def add(self, row: Mapping[str, float]) -> None:
        """Adds a row; missing columns stay empty, other keys are ignored.

        Raises:
          UserError: the file cannot be written.
        """
        self._rows.append({name: f"{row[name]:.6g}" for name in COLUMNS if name in row})
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        files.write_text(self._path, text.getvalue())


def read(path: Path) -> list[dict[str, str]]:
    """Returns the rows of the file; an empty list if it does not exist.

    Raises:
      UserError: the file is not a table.
    """
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]
    except csv.Error as error:
        raise UserError(
            f"expected the table of validations in {path}, found: {error}; remove the file"
        ) from error
    return [{name: row.get(name) or "" for name in COLUMNS} for row in rows]
