"""The text report; the per-class table itself is tested in test_scores."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fer_jax import labels
from fer_jax.report import scores, tables
from fer_jax.report.card import Overlap, ReportCard
from fer_jax.report.predictions import Predictions, load

CARD = ReportCard(
    run="demo", dataset="kdef", config="frontal", protocol="subject-disjoint", split="test",
    model="light_vgg", parameters=5_391_055, seed=3, step=1500, train_seconds=187.4,
)  # fmt: skip


def make_scores(
    names=("fear", "happiness"), labels=(0, 0, 0, 1), predicted=(0, 0, 1, 1), groups=("",) * 4
):
    return scores.score(
        Predictions(
            ids=tuple(f"id{row}" for row in range(len(labels))),
            labels=np.array(labels),
            probabilities=np.eye(len(names))[list(predicted)],
            groups=groups,
            label_names=names,
        )
    )


def test_summary_shows_weight_averaging_and_test_time_augmentation():
    plain = tables.summary(make_scores(), CARD)
    assert "average" not in plain
    assert "test-time" not in plain
    card = dataclasses.replace(CARD, averaged=True, views="flip: mean of 2 views")
    text = tables.summary(make_scores(), card)
    assert "moving average at step 1,500" in text
    assert "test-time aug.  flip: mean of 2 views" in text


def test_summary_is_complete():
    card = dataclasses.replace(
        CARD, leaks=2, near_duplicates=1234, training="adam, batch size 64",
        versions={"jax": "1.2.3", "python": "3.12"},
    )  # fmt: skip
    text = tables.summary(make_scores(), card)
    assert tables.training_rows(CARD) == []
    for part in (
        "2 shared ids, 1,234 near-duplicate pairs",
        "demo (seed 3)", "kdef / frontal", "subject-disjoint", "test, n = 4",
        "light_vgg, 5,391,055 parameters", "random initialization",
        "training        adam, batch size 64", "versions        jax 1.2.3, python 3.12",
        "step 1,500, trained for 3 min 07 s",
        "0.7500 (no interval)", "0.8333 (no interval)", "chance 0.5000",
        "most frequent class 0.7500", "over 2 of 2 classes with images",
        "8 images are needed for an interval; there are 4", "15 equal-width bins",
    ):  # fmt: skip
        assert part in text


def test_summary_has_intervals_over_people():
    people = [f"p{row // 4}" for row in range(48)]
    result = make_scores(labels=[0, 0, 1, 1] * 12, predicted=[0, 0, 1, 0, 1, 0, 1, 1] * 6,
                         groups=people)  # fmt: skip
    text = tables.summary(result, CARD)
    low, high = result.accuracy_interval.low, result.accuracy_interval.high
    assert f"accuracy        0.7500 [{low:.4f}, {high:.4f}]" in text
    assert "95% jackknife over 12 people" in text


def test_a_collapse_is_at_the_top():
    text = tables.report_text(make_scores(predicted=(1, 1, 1, 1)), CARD)
    assert "COLLAPSE: 100.0% of the images are predicted as happiness" in text.splitlines()[1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stand_in": True, "synthetic": True}, ["STAND-IN: rendered faces instead of kdef"]),
        ({"dead_units": 0.97}, ["DEAD UNITS: 97% of the hidden units are zero for every image"]),
        ({"dead_units": 0.4}, []),
        ({"synthetic": True}, ["SYNTHETIC FACES: results do not apply to real faces"]),
        ({"derived_labels": True}, ["DERIVED LABELS: labels are computed by a rule"]),
        ({"derived_labels": True, "label_rule": "facs_v1"}, ["by the rule facs_v1, not annotated"]),
        ({"leaks": 12}, ["LEAK: 12 ids"]),
        ({"leaks": 1, "derived_labels": True}, ["DERIVED LABELS", "LEAK: 1 ids"]),
        ({"view_share": 0.65}, ["CAMERA BOX: no face was detected in 65% of the images"]),
        ({"view_share": 0.01}, []),
        ({}, []),
        ({"leaks": 3, "overlap": Overlap(9)}, []),  # only train and validation share people
        ({"overlap": Overlap(9, ids=2, subjects=1)}, ["LEAK: the network learned from 2 of the 9"]),
        ({"overlap": Overlap(9, copies=4, relabeled=1)}, ["NEAR-DUPLICATES: 4 of 9"]),
        ({"overlap": Overlap(9, anonymous=9)}, ["PEOPLE UNKNOWN: the people of 9 of 9"]),
        ({"leaks": 3, "overlap": Overlap(9, unknown=("old",))}, ["LEAK: 3", "UNCHECKED: what old"]),
    ],
)
def test_warnings_are_at_the_top(changes, expected):
    card = dataclasses.replace(CARD, **changes)
    text = tables.report_text(make_scores(), card)
    assert ReportCard.from_json(json.loads(json.dumps(dataclasses.asdict(card)))) == card
    assert len(card.warnings) == len(expected)
    assert text.startswith("####") == bool(expected)
    top = text[: text.index("run  ")]
    assert all(part in top for part in expected)


def test_the_text_is_ascii_within_eighty_columns():
    names = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
    card = dataclasses.replace(CARD, leaks=7, stand_in=True, notes=("a long note " * 20,))
    text = tables.report_text(make_scores(names), card)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80


def test_confusion_text():
    assert tables.confusion_text(make_scores()) == (
        "               fear happiness   recall\n"
        "     fear         2         1    66.7%\n"
        "happiness         0         1   100.0%\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"), (59.4, "59 s"), (59.7, "1 min 00 s"), (187, "3 min 07 s"),
        (3599.9, "1 h 00 min"), (7530, "2 h 06 min"), (100_000, "27 h 47 min"),
    ],
)  # fmt: skip
def test_duration(seconds, text):
    assert tables.duration(seconds) == text


def test_predictions_reproduce_the_papers_table_of_raf_db(tmp_path):
    """Reproduces its format, supports and accuracy (2,309 of 3,068 correct: 75.26 %).

    The paper gives no hits per class; those of the test are made up and have the paper's sum.
    """
    support = dict(zip(labels.RAF_DB, (329, 74, 160, 1185, 478, 162, 680), strict=True))
    hits = dict(zip(labels.RAF_DB, (240, 34, 64, 1030, 330, 101, 510), strict=True))
    truth, predicted = [], []
    for index, name in enumerate(labels.RAF_DB):
        wrong = support[name] - hits[name]
        truth += [index] * support[name]
        predicted += [index] * hits[name] + [(index + 1) % 7] * wrong
    probabilities = np.eye(7)[predicted] * 0.93 + 0.01
    ids = tuple(f"test_{row:04}" for row in range(len(truth)))
    path = Predictions(ids, np.array(truth), probabilities, ("",) * len(ids), labels.RAF_DB).save(
        tmp_path / "predictions.csv"
    )
    result = scores.score(load(path))
    table = tables.classification_report(result).splitlines()
    assert f"{result.accuracy:.2%}" == "75.26%"
    assert table[0].split() == ["precision", "recall", "f1-score", "support"]
    for line, name in zip(table[2:9], labels.RAF_DB, strict=True):
        cells = line.split()
        assert (cells[0], cells[2], cells[4]) == (
            name, f"{hits[name] / support[name]:.2f}", str(support[name]),
        )  # fmt: skip
    assert table[10].split() == ["accuracy", "0.75", "3068"]
    assert [line.split()[0] for line in table[11:]] == ["macro", "weighted"]
