"""Images of a validation, their table, and summary.csv of a resumed run."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.data.records import Records, Split
from fer_jax.data.store import HostStore
from fer_jax.monitor import summary_csv as summary_table
from fer_jax.monitor.summary_csv import SummaryTable
from fer_jax.monitor.validation_images import misclassified, write_validation_images

LABELS = np.array([0, 0, 1, 1, 1], np.int32)
PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7], [0.7, 0.3]], np.float32)


@pytest.mark.parametrize(("limit", "rows"), [(5, [2, 4, 1]), (2, [2, 4]), (0, [])])
def test_the_most_confident_mistakes_come_first(limit, rows):
    assert misclassified(LABELS, PROBABILITIES, limit).tolist() == rows


class MemoryWriter:
    """Stores what is written."""

    def __init__(self):
        self.images, self.texts = {}, {}

    def write_images(self, step, images):
        self.images |= images

    def write_texts(self, step, texts):
        self.texts |= texts


@pytest.mark.parametrize("all_correct", [False, True])
def test_misclassified_images_are_shown_with_their_names(all_correct):
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    names, ids = ("happiness", "fear"), tuple(f"r{i}" for i in range(5))
    records = Records(images, LABELS, ids, ids, names, "")
    split = Split(LABELS, ids, ids, names, "", lambda row: images[row])
    probabilities = np.eye(2, dtype=np.float32)[LABELS] if all_correct else PROBABILITIES
    confusion = np.diag([2, 3]) if all_correct else np.array([[1, 1], [2, 1]])
    writer = MemoryWriter()
    store = HostStore(records)
    write_validation_images(writer, 7, split, store, confusion, probabilities, limit=2)
    assert writer.images["validation/confusion_matrix"].dtype == np.uint8
    if all_correct:
        assert "validation/misclassified" not in writer.images
        assert not writer.texts
        return
    assert writer.images["validation/misclassified"][:, 0, 0, 0].tolist() == [2, 4]
    table = writer.texts["validation/misclassified"].splitlines()
    assert table[2:] == ["| r2 | fear | happiness | 0.800 |", "| r4 | fear | happiness | 0.700 |"]


def test_a_resumed_run_drops_the_rows_that_it_writes_again(tmp_path):
    path = tmp_path / "summary.csv"
    table = SummaryTable(path)
    for step in (10, 20, 30):
        table.add({"step": step, "epoch": step / 10, "validation_loss": 1 / step, "unknown": 1.0})
    assert [row["step"] for row in summary_table.read(path)] == ["10", "20", "30"]
    resumed = SummaryTable(path, first_step=20)
    resumed.add({"step": 30, "epoch": 3, "validation_loss": 0.5})
    rows = summary_table.read(path)
    assert [row["validation_loss"] for row in rows] == ["0.1", "0.05", "0.5"]
    assert rows[0]["train_loss"] == ""
    assert path.read_text().splitlines()[0] == ",".join(summary_table.COLUMNS)
