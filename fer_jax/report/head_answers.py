"""Answers of a network's further heads on a split, and their CSV file.

Scores are computed in `head_scores`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.heads import Heads

FILE = "heads.csv"


@dataclasses.dataclass(frozen=True, eq=False)
class HeadAnswers:
    """Answers of further heads for N images, and their labels.

    Attributes:
      heads: of the network.
      answers: float32[N, E]: probabilities of units, then valence and arousal.
      labels: float32[N, E], NaN where unknown; a unit is shown from 0.5 on.

    Raises:
      UserError: an array has another shape.
    """

    heads: Heads
    answers: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        width = len(self.heads.names)
        if self.answers.shape != self.labels.shape or self.answers.shape[1:] != (width,):
            raise UserError(
                f"expected answers and labels of {width} outputs for the same images, found "
                f"arrays of shape {self.answers.shape} and {self.labels.shape}"
            )

    def save(self, path: Path, ids: Sequence[str]) -> Path:
        """Writes a CSV file: id, and the label and the answer of each output; "" if unknown."""
        text = io.StringIO()
        writer = csv.writer(text)
        names = self.heads.names
        columns = [column for name in names for column in (f"label_{name}", f"answer_{name}")]
        writer.writerow(["id", *columns])
        for record_id, labels, answers in zip(ids, self.labels, self.answers, strict=True):
            cells = [
                cell
                for label, answer in zip(labels, answers, strict=True)
                for cell in ("" if np.isnan(label) else str(label), str(answer))
            ]
            writer.writerow([record_id, *cells])
        return files.write_text(path, text.getvalue())
