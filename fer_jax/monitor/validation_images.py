"""The pictures of a validation for TensorBoard: what is confused, and which faces."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fer_jax.data.records import Split
from fer_jax.data.store import Store
from fer_jax.monitor.writers import Writer
from fer_jax.training.evaluation import Evaluation


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """A confusion matrix and what it says, for drawing.

    Attributes:
      label_names: C class names.
      confusion: int64[C, C], rows true, columns predicted.
    """

    label_names: tuple[str, ...]
    confusion: np.ndarray

    @property
    def support(self) -> np.ndarray:
        """int64[C], pictures of each class."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def accuracy(self) -> float:
        """The fraction that is right."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have pictures."""
        present = self.support > 0
        return float((np.diag(self.confusion)[present] / self.support[present]).mean())


def misclassified(labels: np.ndarray, probabilities: np.ndarray, most: int) -> np.ndarray:
    """int64[<= most]: rows whose class is wrong, the most certain first.

    Args:
      labels: int32[N].
      probabilities: float32[N, C].
      most: of them.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    certainty = probabilities[wrong, predicted[wrong]]
    return np.asarray(wrong[np.argsort(-certainty, kind="stable")][:most])


def write_pictures(
    writer: Writer, step: int, split: Split, store: Store, evaluation: Evaluation, most: int
) -> None:
    """Writes the confusion matrix, and up to `most` faces of `split` that were told wrongly."""
    from fer_jax.report import plots  # Matplotlib: not before the first step

    images: dict[str, Any] = {
        "validation/confusion_matrix": plots.confusion_matrix(
            Counts(split.label_names, evaluation.confusion), f"validation, step {step:,}"
        )
    }
    rows = misclassified(split.labels, evaluation.probabilities, most)
    if len(rows):
        images["validation/misclassified"] = store.images(rows)
        writer.write_texts(
            step, {"validation/misclassified": _table(rows, split, evaluation.probabilities)}
        )
    writer.write_images(step, images)


def _table(rows: np.ndarray, split: Split, probabilities: np.ndarray) -> str:
    """Markdown, in the order of the pictures."""
    lines = ["| record | true | predicted | probability |", "|---|---|---|---|"]
    for row in rows:
        predicted = int(probabilities[row].argmax())
        lines.append(
            f"| {split.ids[row]} | {split.label_names[split.labels[row]]} | "
            f"{split.label_names[predicted]} | {probabilities[row, predicted]:.3f} |"
        )
    return "\n".join(lines)
