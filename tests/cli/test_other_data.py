"""Evaluating a run on another data set: mapping of classes, framing of images."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest

from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records
from fer_jax.errors import UserError
from fer_jax.experiments import evaluate


def run_of(labels, margin=None, crop=None, name="kdef"):
    return types.SimpleNamespace(
        folder="runs/x", labels=labels, preprocessing=Preprocessing(8, "unit", face_margin=margin),
        data={"crop": crop}, settings=types.SimpleNamespace(data=types.SimpleNamespace(name=name)),
    )  # fmt: skip


def records_of(names, labels):
    count = len(labels)
    return Records(np.zeros((count, 8, 8, 3), np.uint8), np.array(labels, np.int32),
                   tuple(f"r{i}" for i in range(count)), ("g",) * count, names, "")  # fmt: skip


def test_classes_are_mapped_by_name_and_the_mapping_is_reported():
    run = run_of(("anger", "fear", "neutral"))
    labels, kept, said = evaluate.map_labels(
        run, records_of(("neutral", "anger"), [0, 1, 1]), "refuse"
    )
    assert labels.tolist() == [2, 0, 0]
    assert kept.tolist() == [0, 1, 2]
    assert "missing from the data: fear" in said[1]


def test_unknown_classes_are_refused_or_dropped():
    run, records = run_of(("anger",)), records_of(("anger", "contempt"), [1, 0, 1, 0])
    with pytest.raises(UserError, match=r"runs/x: .*contempt.*--unmapped drop"):
        evaluate.map_labels(run, records, "refuse")
    labels, kept, said = evaluate.map_labels(run, records, "drop")
    assert (labels.tolist(), kept.tolist()) == ([0, 0], [1, 3])
    assert "contempt (dropped)" in said[0]
    assert evaluate.select(records, kept).ids == ("r1", "r3")


def test_votes_follow_the_classes_of_the_network():
    run, names = run_of(("anger", "neutral")), ("neutral", "contempt", "anger")
    votes = np.array([[0.5, 0.3, 0.2], [0, 0.9, 0.1], [0.1, 0, 0.9]], np.float32)
    data = types.SimpleNamespace(label_names=names, votes=lambda _: votes)
    found = evaluate.votes_of(run, data, "test", np.array([0, 2]), "drop")
    np.testing.assert_allclose(found, [[2 / 7, 5 / 7], [0.9, 0.1]], rtol=1e-5)
    data.votes = lambda _: None
    assert evaluate.votes_of(run, data, "test", np.array([0, 2]), "drop") is None


@pytest.mark.parametrize(
    ("margin", "crop", "name", "pictures", "expected"),
    [
        (0.1, None, "synthetic_faces", "whole", 0.1),  # the run's data set
        (0.1, None, "synthetic_faces", "face", None),  # crops of another set
        (None, {"margin": 0.2}, "kdef", "whole", 0.2),  # cropped like the run's crops
        (None, {"margin": 0.2}, "kdef", "face", None),
    ],
)
def test_framing_depends_on_how_images_are_stored(margin, crop, name, pictures, expected):
    data = types.SimpleNamespace(
        metadata={"pictures": pictures},
        builder=types.SimpleNamespace(name="synthetic_faces" if pictures == "whole" else "raf_db"),
    )
    run = run_of(("anger",), margin, crop, name)
    assert evaluate.preprocessing_for(run, data) == dataclasses.replace(
        run.preprocessing, face_margin=expected
    )
