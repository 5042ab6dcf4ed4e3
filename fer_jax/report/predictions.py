"""Predictions of a network on a split, and their CSV file.

Scores are computed in `scores`, plots drawn in `plots`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.report.head_answers import HeadAnswers

_FIXED_COLUMNS = ("id", "group", "label", "predicted")
_PROBABILITY_PREFIX = "probability_"
_SUM_TOLERANCE = 1e-2  # a softmax rounded to bfloat16 is off by up to 2^-8


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities and true classes of N images.

    Attributes:
      ids: N record ids.
      labels: int32[N], true class indices.
      probabilities: float32[N, C]; rows sum to 1.
      groups: N subject, video or movie ids; "" if unknown.
      label_names: C class names in index order.
      unit: what a group is: "subject", "video", "movie", "photo", or "group" if mixed. Not saved.
      votes: float32[N, C], share of people's votes for each class; None if unknown. Not saved.
      heads: answers of further heads; None if there are none. Saved in a file of their own.

    Raises:
      UserError: the lengths differ, a label is out of range, or a row is not a probability
        distribution.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    groups: tuple[str, ...]
    label_names: tuple[str, ...]
    unit: str = "subject"
    votes: np.ndarray | None = None
    heads: HeadAnswers | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "groups", "label_names"):
            object.__setattr__(self, name, tuple(str(item) for item in getattr(self, name)))
        _check_shapes(self)
        # Copies, so that the arrays of a frozen object cannot change.
        labels = np.array(self.labels, dtype=np.int32)
        probabilities = np.array(self.probabilities, dtype=np.float32)
        _check_values(labels, probabilities, self.label_names, self.ids)
        for name, array in (("labels", labels), ("probabilities", probabilities)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def predicted(self) -> np.ndarray:
        """int32[N], the most probable class; the lower index if two tie."""
        return self.probabilities.argmax(axis=1).astype(np.int32)

    def confusion(self) -> np.ndarray:
        """int64[C, C] counts: rows are the true class, columns the predicted one."""
        classes = len(self.label_names)
        cells = self.labels.astype(np.int64) * classes + self.predicted
        return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)

    def take(self, rows: np.ndarray) -> Predictions:
        """Returns those of the images int64[M], without votes and further heads."""
        return Predictions(
            ids=tuple(self.ids[row] for row in rows),
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            groups=tuple(self.groups[row] for row in rows),
            label_names=self.label_names,
            unit=self.unit,
        )

    def save(self, path: Path) -> Path:
        """Writes a CSV file: id, group, label, predicted and a probability per class.

        Probabilities have the fewest digits that round-trip as float32.
        """
        text = io.StringIO()
        writer = csv.writer(text)
        names = self.label_names
        writer.writerow([*_FIXED_COLUMNS, *(_PROBABILITY_PREFIX + name for name in names)])
        columns = zip(
            self.ids, self.groups, self.labels, self.predicted, self.probabilities, strict=True
        )
        for record_id, group, label, predicted, row in columns:
            writer.writerow([record_id, group, names[label], names[predicted], *map(str, row)])
        return files.write_text(path, text.getvalue())


def join(parts: Sequence[Predictions], **changes: Any) -> Predictions:
    """Returns the predictions of all parts, which have the same classes, in order.

    Args:
      parts: one or more.
      **changes: fields with other values, such as ids that are unique, `unit` and `votes`.
    """
    fields: dict[str, Any] = {
        "ids": tuple(name for one in parts for name in one.ids),
        "labels": np.concatenate([one.labels for one in parts]),
        "probabilities": np.concatenate([one.probabilities for one in parts]),
        "groups": tuple(group for one in parts for group in one.groups),
        "label_names": parts[0].label_names,
    }
    return Predictions(**(fields | changes))


def load(path: Path) -> Predictions:
    """Reads a file of `Predictions.save`.

    Raises:
      UserError: the file is missing, or has wrong columns or an invalid row.
    """
    try:
        # newline="" leaves line breaks in quoted ids to the csv reader.
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, csv.Error) as error:
        raise UserError(
            f"expected predictions in {path}, found: {error}; run the evaluation again"
        ) from error
    label_names = _label_names(rows[0] if rows else [], path)
    index = {name: position for position, name in enumerate(label_names)}
    labels, probabilities = [], []
    for number, row in enumerate(rows[1:], start=2):
        label, values = _parse_row(row, index, f"row {number} of {path}")
        labels.append(label)
        probabilities.append(values)
    return Predictions(
        ids=tuple(row[0] for row in rows[1:]),
        labels=np.array(labels, np.int32),
        probabilities=np.array(probabilities, np.float32).reshape(-1, len(label_names)),
        groups=tuple(row[1] for row in rows[1:]),
        label_names=label_names,
    )


def _check_shapes(predictions: Predictions) -> None:
    classes, images = len(predictions.label_names), len(predictions.ids)
    shape = np.shape(predictions.probabilities)
    if len(shape) != 2 or shape[1] != classes:
        raise UserError(
            f"expected one probability for each of the {classes} classes "
            f"({', '.join(predictions.label_names)}), found an array of shape {shape}; "
            "check that the network was trained with these labels"
        )
    counts = {
        "labels": np.shape(predictions.labels),
        "groups": (len(predictions.groups),),
        "probabilities": shape[:1],
    }
    if predictions.votes is not None and np.shape(predictions.votes) != shape:
        raise UserError(
            f"expected votes of shape {shape}, found {np.shape(predictions.votes)}; pass the share "
            "of each class for each image"
        )
    for name, shape in counts.items():
        if shape != (images,):
            raise UserError(
                f"expected {images} {name}, one for each id, found shape {shape}; "
                "pass all arrays of the same split"
            )
    if images == 0:
        raise UserError("expected at least one image, found none; choose another split")


def _check_values(
    labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], ids: Sequence[str]
) -> None:
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if outside.size:
        first = outside[0]
        raise UserError(
            f"expected labels from 0 to {len(names) - 1} ({', '.join(names)}), found "
            f"{labels[first]} for {ids[first]!r}; use the same label list for the network and "
            "the data set"
        )
    in_range = (probabilities >= 0).all(axis=1)  # NaN compares as false
    sums = probabilities.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(~(in_range & (np.abs(sums - 1) <= _SUM_TOLERANCE)))
    if wrong.size:
        first = wrong[0]
        raise UserError(
            f"expected probabilities that sum to 1, found {probabilities[first].tolist()} for "
            f"{ids[first]!r}; pass softmax outputs"
        )


def _label_names(header: Sequence[str], path: Path) -> tuple[str, ...]:
    fixed, columns = tuple(header[: len(_FIXED_COLUMNS)]), header[len(_FIXED_COLUMNS) :]
    named = all(column.startswith(_PROBABILITY_PREFIX) for column in columns)
    if fixed != _FIXED_COLUMNS or not columns or not named:
        raise UserError(
            f"expected the columns {', '.join(_FIXED_COLUMNS)}, {_PROBABILITY_PREFIX}... in "
            f"{path}, found {', '.join(header) or 'an empty file'}; run the evaluation again"
        )
    return tuple(column.removeprefix(_PROBABILITY_PREFIX) for column in columns)


def _parse_row(
    row: Sequence[str], index: dict[str, int], where: str
) -> tuple[int, list[np.float32]]:
    try:
        if len(row) != len(_FIXED_COLUMNS) + len(index):
            raise ValueError(f"{len(row)} cells")
        label, predicted = index[row[2]], index[row[3]]
        values = [np.float32(cell) for cell in row[len(_FIXED_COLUMNS) :]]
        if int(np.argmax(values)) != predicted:
            raise ValueError(f"predicted {row[3]!r}, which is not the most probable class")
    except (KeyError, ValueError) as error:
        raise UserError(
            f"expected an id, a group, two of {', '.join(index)} and {len(index)} numbers in "
            f"{where}, found {error}; run the evaluation again"
        ) from error
    return label, values
