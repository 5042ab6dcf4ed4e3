"""Images of a validation for TensorBoard: the confusion matrix and misclassified faces."""

from __future__ import annotations

from typing import Any

import numpy as np

from fer_jax.data.records import Split
from fer_jax.data.store import Store
from fer_jax.monitor.writers import Writer


def misclassified(labels: np.ndarray, probabilities: np.ndarray, limit: int) -> np.ndarray:
    """Returns int64[<= limit] rows of wrong predictions, the most confident first.

    Args:
      labels: int32[N].
      probabilities: float32[N, C].
      limit: maximum number of rows.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    confidence = probabilities[wrong, predicted[wrong]]
    return np.asarray(wrong[np.argsort(-confidence, kind="stable")][:limit])


def write_validation_images(
    writer: Writer,
    step: int,
    split: Split,
    store: Store,
    confusion: np.ndarray,
    probabilities: np.ndarray,
    limit: int,
) -> None:
    """Writes the confusion matrix and up to `limit` misclassified images, with a table of them.

    Args:
      writer: where to write.
      step: of the run.
      split: the N validation records.
      store: their images.
      confusion: int64[C, C], rows true, columns predicted.
      probabilities: float32[N, C].
      limit: maximum number of misclassified images.
    """
    from fer_jax.report import plots  # imports Matplotlib; not needed before the first step

    images: dict[str, Any] = {
        "validation/confusion_matrix": plots.confusion_matrix(
            confusion, split.label_names, f"validation, step {step:,}"
        )
    }
    rows = misclassified(split.labels, probabilities, limit)
    if len(rows):
        images["validation/misclassified"] = store.images(rows)
        writer.write_texts(step, {"validation/misclassified": _table(rows, split, probabilities)})
    writer.write_images(step, images)


def _table(rows: np.ndarray, split: Split, probabilities: np.ndarray) -> str:
    """Formats the predictions of `rows` as a Markdown table."""
    lines = ["| record | true | predicted | probability |", "|---|---|---|---|"]
    for row in rows:
        predicted = int(probabilities[row].argmax())
        lines.append(
            f"| {split.ids[row]} | {split.label_names[split.labels[row]]} | "
            f"{split.label_names[predicted]} | {probabilities[row, predicted]:.3f} |"
        )
    return "\n".join(lines)
