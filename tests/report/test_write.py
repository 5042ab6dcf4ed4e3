"""The report folder: all parts there, warnings on top, deterministic samples."""

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
def given(tmp_path):
    said = build([0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 2, 2, 2, 0])
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    history = tmp_path / "metrics.jsonl"
    history.write_text('{"step": 1, "train/loss": 2.0}\n{"step": 2, "train/loss": 1.0}\n{"st')
    return {"predictions": said, "images": images, "history": history}


def test_every_part_is_written(tmp_path, given):
    paths = write.write_report(tmp_path / "report", card=CARD, samples=4, **given)
    assert sorted(path.name for path in paths.folder.iterdir()) == [
        "confusion_matrix.png",
        *(f"emotion_analysis_{i}.png" for i in (1, 2, 3, 4)),
        "index.html", "learning_curves.png", "predictions.csv", "reliability.png",
        "report.json", "report.md", "report.txt",
    ]  # fmt: skip
    assert set(paths.pictures) == set(paths.folder.glob("*.png"))
    for path in paths.pictures:
        drawn = cv2.imread(str(path))[..., ::-1]
        np.testing.assert_array_equal(drawn, paths.drawings[path.stem])
    assert predictions.load(paths.predictions).ids == given["predictions"].ids
    markdown = paths.markdown.read_text()
    for picture in paths.folder.glob("*.png"):
        assert f"({picture.name})" in markdown
    for block in markdown.split("```text\n")[1:]:
        assert block.split("```")[0] in paths.text.read_text()


def test_json_holds_scores_and_card(tmp_path, given):
    paths = write.write_report(tmp_path / "report", card=CARD, samples=0, **given)
    document = json.loads(paths.json.read_text())
    assert document["card"] == dataclasses.asdict(CARD) | {"notes": []}
    assert document["accuracy"] == pytest.approx(4 / 7)
    assert document["confusion"] == [[1, 1, 0], [0, 1, 1], [1, 0, 2]]
    assert document["classes"]["fear"]["support"] == 3
    low, high = document["intervals"]["accuracy"]
    assert low <= 4 / 7 <= high
    with open(paths.predictions, newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["label"] == row["predicted"] for row in rows) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"synthetic": True}, ["SYNTHETIC FACES: figures say nothing about real faces"]),
        ({"stand_in": True, "synthetic": True, "leaks": 5}, ["STAND-IN", "LEAK: 5 ids"]),
        ({"derived_labels": True}, ["DERIVED LABELS"]),
    ],
)
def test_doubtful_reports_say_so_on_top(tmp_path, given, changes, words):
    card = dataclasses.replace(CARD, **changes)
    paths = write.write_report(tmp_path / "report", card=card, samples=1, **given)
    tops = (paths.text.read_text()[:500], paths.markdown.read_text()[:500])
    plain = write.write_report(tmp_path / "plain", card=CARD, samples=1, **given)
    for name, drawing in paths.drawings.items():  # pictures are passed on without their report
        assert not np.array_equal(drawing, plain.drawings[name]), name
    document = json.loads(paths.json.read_text())
    for word in words:
        assert all(word in top for top in tops)
        assert any(word in warning for warning in document["warnings"])


@pytest.mark.parametrize("history", [None, Path("none.jsonl")])
def test_a_second_report_replaces_the_first(tmp_path, given, history):
    folder = tmp_path / "report"
    write.write_report(folder, card=CARD, samples=5, **given)
    paths = write.write_report(folder, card=CARD, samples=2, **(given | {"history": history}))
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "confusion_matrix.png", "emotion_analysis_1.png", "emotion_analysis_2.png",
        "reliability.png",
    ]  # fmt: skip
    assert len(paths.pictures) == 4


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
def test_samples_are_right_and_wrong_of_different_classes(labels, predicted, count, chosen):
    assert write.choose_samples(build(labels, predicted), count) == chosen


def test_images_of_another_split_are_refused(tmp_path, given):
    wrong = given | {"images": given["images"][:5]}
    with pytest.raises(UserError, match="7, height, width, 3"):
        write.write_report(tmp_path, card=CARD, **wrong)


def test_an_unwritable_folder_is_refused(tmp_path, given):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="expected to write"):
        write.write_report(tmp_path / "file" / "report", card=CARD, samples=0, **given)
