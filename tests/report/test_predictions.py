"""Predictions: validation of the arrays, and an exact round trip through CSV."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.report import predictions

NAMES = ("fear", "happiness", "sadness")
ODD_IDS = (
    "a,b \"quoted\" 'id'",
    "Gänsefüßchen/éà 顔.jpg",
    "two\nlines",
    "carriage\rreturn",
    " spaces around ",
    "",
    b"not-utf8-\xff.jpg".decode("utf-8", "surrogateescape"),
    "=1+2",
)


def build(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "ids": ODD_IDS,
        "labels": rng.integers(0, 3, len(ODD_IDS)),
        "probabilities": rng.dirichlet(np.ones(3), len(ODD_IDS)),
        "groups": tuple(f"p,{i % 3}" for i in range(len(ODD_IDS))),
        "label_names": NAMES,
    }
    return predictions.Predictions(**(fields | changes))


def test_csv_round_trip_is_exact(tmp_path):
    before = build()
    after = predictions.load(before.save(tmp_path / "new" / "predictions.csv"))
    assert (after.ids, after.groups, after.label_names) == (ODD_IDS, before.groups, NAMES)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.probabilities.tobytes() == before.probabilities.tobytes()
    assert (
        after.save(tmp_path / "again.csv").read_bytes()
        == (tmp_path / "new" / "predictions.csv").read_bytes()
    )


def test_csv_columns(tmp_path):
    one = build(ids=("x",), labels=[2], probabilities=[[0.25, 0.5, 0.25]], groups=("m7",))
    assert one.save(tmp_path / "p.csv").read_text().splitlines() == [
        "id,group,label,predicted,probability_fear,probability_happiness,probability_sadness",
        "x,m7,sadness,happiness,0.25,0.5,0.25",
    ]


def test_confusion_rows_are_the_true_classes():
    two = build(
        ids=("a", "b"), groups=("", ""), labels=[0, 0], probabilities=[[0, 1, 0], [0, 0.5, 0.5]]
    )
    assert two.confusion().tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert two.confusion().dtype == np.int64


def test_the_callers_arrays_are_copied():
    probabilities = np.full((1, 3), 1 / 3, np.float32)
    one = build(ids=("a",), groups=("",), labels=[0], probabilities=probabilities)
    probabilities[0, 2] = 9
    assert one.predicted.tolist() == [0]
    with pytest.raises(ValueError, match="read-only"):
        one.labels[0] = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_names": ("fear", "happiness")}, "each of the 2 classes"),
        ({"labels": np.zeros(5, int)}, "expected 8 labels"),
        ({"groups": ("g",)}, "expected 8 groups"),
        ({"probabilities": np.full((5, 3), 1 / 3)}, "expected 8 probabilities"),
        ({"labels": np.full(8, 3)}, "found 3 for 'a,b"),
        ({"labels": np.full(8, -1)}, "found -1"),
        ({"probabilities": np.full((8, 3), 0.5)}, "sum to 1"),
        ({"probabilities": np.full((8, 3), np.nan)}, "sum to 1"),
        ({"probabilities": np.tile([1.5, -0.5, 0], (8, 1))}, "sum to 1"),
        (
            {"ids": (), "groups": (), "labels": [], "probabilities": np.zeros((0, 3))},
            "at least one",
        ),
    ],
)
def test_wrong_predictions_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


HEADER = "id,group,label,predicted,probability_fear,probability_sadness\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "an empty file"),
        ("id,label\n", "found id, label"),
        (HEADER, "at least one"),
        (HEADER + "a,,fear,fear,1.0\n", "row 2 of .*5 cells"),
        (HEADER + "a,,fear,fear,1.0,0.0\nb,,calm,fear,1.0,0.0\n", "row 3 of .*calm"),
        (HEADER + "a,,fear,fear,high,0.0\n", "row 2 of .*high"),
        (HEADER + "a,,fear,sadness,0.9,0.1\n", "not the most probable"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, message):
    path = tmp_path / "predictions.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        predictions.load(path)
