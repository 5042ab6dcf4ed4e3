"""The report folder: complete, warnings at the top, deterministic samples."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.report import predictions, write
from fer_jax.report.card import ReportCard

NAMES = ("neutral", "happiness", "fear")
CARD = ReportCard(
    run="demo", dataset="synthetic_faces", config="kdef", protocol="subject-disjoint",
    split="test", model="light_vgg", parameters=5_391_055, seed=3, step=40, train_seconds=12.0,
)  # fmt: skip


def build(labels, predicted):
    one_hot = np.eye(3)[list(predicted)] * 0.7 + 0.1
    ids = tuple(f"s{i}" for i in range(len(labels)))
    return predictions.Predictions(ids, labels, one_hot, ids, NAMES)


@pytest.fixture
def inputs(tmp_path):
    predicted = build([0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 2, 2, 2, 0])
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    history = tmp_path / "metrics.jsonl"
    history.write_text('{"step": 1, "train/loss": 2.0}\n{"step": 2, "train/loss": 1.0}\n{"st')
    return {"predictions": predicted, "images": images, "history": history}


def test_every_file_is_written(tmp_path, inputs):
    paths = write.write_report(tmp_path / "report", card=CARD, samples=4, **inputs)
    assert sorted(path.name for path in paths.folder.iterdir()) == [
        "confusion_matrix.png", "coverage.png",
        *(f"emotion_analysis_{i}.png" for i in (1, 2, 3, 4)),
        "index.html", "learning_curves.png", "predictions.csv", "reliability.png",
        "report.json", "report.md", "report.txt",
    ]  # fmt: skip
    assert set(paths.plot_paths) == set(paths.folder.glob("*.png"))
    for path in paths.plot_paths:
        decoded = cv2.imread(str(path))[..., ::-1]
        np.testing.assert_array_equal(decoded, paths.plots[path.stem])
    assert predictions.load(paths.predictions).ids == inputs["predictions"].ids
    markdown = paths.markdown.read_text()
    for path in paths.folder.glob("*.png"):
        assert f"({path.name})" in markdown
    for block in markdown.split("```text\n")[1:]:
        assert block.split("```")[0] in paths.text.read_text()


def test_json_contains_scores_and_card(tmp_path, inputs):
    paths = write.write_report(tmp_path / "report", card=CARD, samples=0, **inputs)
    document = json.loads(paths.json.read_text())
    assert document["card"] == dataclasses.asdict(CARD) | {"notes": []}
    assert document["accuracy"] == pytest.approx(4 / 7)
    assert document["confusion"] == [[1, 1, 0], [0, 1, 1], [1, 0, 2]]
    assert document["classes"]["fear"]["support"] == 3
    assert document["chance"] == pytest.approx(1 / 3)
    assert document["intervals"] == {
        "level": 0.95,
        "method": "8 people are needed for an interval; there are 7",
        "accuracy": None, "balanced_accuracy": None, "macro_f1": None,
    }  # fmt: skip
    with open(paths.predictions, newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["label"] == row["predicted"] for row in rows) == 4


def test_intervals_and_a_collapse_are_in_every_file(tmp_path):
    collapsed = build([0, 1, 2] * 4, [1] * 12)
    images = np.zeros((12, 32, 32, 3), np.uint8)
    paths = write.write_report(tmp_path / "report", collapsed, images, CARD, samples=0)
    document = json.loads(paths.json.read_text())
    warnings = [warning.split(":")[0] for warning in document["warnings"]]
    assert warnings == ["COLLAPSE", "CHANCE"]
    for path in (paths.text, paths.markdown, paths.page):
        assert all(warning in path.read_text() for warning in warnings)
    for low, high in (document["intervals"][name] for name in ("accuracy", "balanced_accuracy")):
        assert low <= 1 / 3 <= high


def test_votes_are_in_every_form_of_the_report(tmp_path, inputs):
    plain = write.write_report(tmp_path / "plain", card=CARD, samples=0, **inputs)
    votes = np.full((7, 3), 1 / 3)
    voted = inputs | {"predictions": dataclasses.replace(inputs["predictions"], votes=votes)}
    paths = write.write_report(tmp_path / "report", card=CARD, samples=0, **voted)
    found = json.loads(paths.json.read_text())["votes"]
    third = pytest.approx(1 / 3)
    divergence = -np.log(3) - np.log([0.8, 0.1, 0.1]).mean()
    assert found == {
        "agreement": third, "ceiling": third, "divergence": pytest.approx(divergence, rel=1e-5)
    }  # fmt: skip
    for path in (paths.text, paths.markdown, paths.page):
        text = " ".join(path.read_text().split())  # the text report wraps its lines
        assert "0.3333 of the votes are for the predicted class, at most 0.3333" in text
    assert json.loads(plain.json.read_text())["votes"] is None
    for path in (plain.text, plain.markdown, plain.page):
        assert "votes" not in path.read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"synthetic": True}, ["SYNTHETIC FACES: results do not apply to real faces"]),
        ({"stand_in": True, "synthetic": True, "leaks": 5}, ["STAND-IN", "LEAK: 5 ids"]),
        ({"derived_labels": True}, ["DERIVED LABELS"]),
    ],
)
def test_warnings_are_at_the_top_and_in_the_plots(tmp_path, inputs, changes, words):
    card = dataclasses.replace(CARD, **changes)
    paths = write.write_report(tmp_path / "report", card=card, samples=1, **inputs)
    tops = (paths.text.read_text()[:500], paths.markdown.read_text()[:500])
    plain = write.write_report(tmp_path / "plain", card=CARD, samples=1, **inputs)
    for name, plot in paths.plots.items():  # plots are shared without the report
        assert not np.array_equal(plot, plain.plots[name]), name
    document = json.loads(paths.json.read_text())
    for word in words:
        assert all(word in top for top in tops)
        assert any(word in warning for warning in document["warnings"])


@pytest.mark.parametrize("history", [None, Path("none.jsonl")])
def test_a_second_report_replaces_the_first(tmp_path, inputs, history):
    folder = tmp_path / "report"
    write.write_report(folder, card=CARD, samples=5, **inputs)
    paths = write.write_report(folder, card=CARD, samples=2, **(inputs | {"history": history}))
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "confusion_matrix.png", "coverage.png", "emotion_analysis_1.png",
        "emotion_analysis_2.png", "reliability.png",
    ]  # fmt: skip
    assert len(paths.plot_paths) == 5


@pytest.mark.parametrize(
    ("labels", "predicted", "count", "chosen"),
    [
        ([0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 2, 2, 2, 0], 4, [0, 2, 6, 1]),
        ([0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 2, 2, 2, 0], 2, [0, 3]),
        ([0, 0, 1, 2], [0, 0, 1, 2], 6, [0, 2, 3, 1]),
        ([0, 0, 1, 2], [1, 1, 2, 0], 3, [0, 2, 3]),
        ([0, 0, 0, 1], [0, 0, 0, 1], 3, [0, 3, 1]),
        ([0, 1], [0, 0], 0, []),
        ([2, 1], [2, 0], 99, [0, 1]),
    ],
)
def test_samples_are_correct_and_wrong_and_of_different_classes(labels, predicted, count, chosen):
    assert write.choose_samples(build(labels, predicted), count) == chosen


def test_images_of_another_split_are_refused(tmp_path, inputs):
    wrong = inputs | {"images": inputs["images"][:5]}
    with pytest.raises(UserError, match="7, height, width, 3"):
        write.write_report(tmp_path, card=CARD, **wrong)


def test_an_unwritable_folder_is_refused(tmp_path, inputs):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="expected to write"):
        write.write_report(tmp_path / "file" / "report", card=CARD, samples=0, **inputs)
