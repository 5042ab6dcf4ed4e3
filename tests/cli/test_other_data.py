"""Evaluating a run on another data set: mapping of classes, framing of images."""

from __future__ import annotations

import types

import cv2
import numpy as np
import pytest

from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records
from fer_jax.errors import UserError
from fer_jax.experiments import evaluate, reframing
from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.decode import read_image
from fer_jax.faces.finder import FaceFinder
from fer_jax.heads import Heads
from fer_jax.inference.locate import framing_of
from fer_jax.serve.page import EXAMPLES


def run_of(labels, margin=None, crop=None, name="kdef", size=8):
    return types.SimpleNamespace(
        folder="runs/x", labels=labels,
        preprocessing=Preprocessing(size, "unit", face_margin=margin),
        data={"crop": crop, "name": f"{name}/face/1.0.0"},
        settings=types.SimpleNamespace(data=types.SimpleNamespace(name=name)),
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


def test_labels_of_further_heads_follow_the_units_of_the_network():
    heads, nan = Heads(2, ("AU01", "AU04", "AU12"), affect=True), np.nan
    run = types.SimpleNamespace(heads=heads)
    units = np.array([[1, 0], [0, 1], [nan, 1]], np.float32)
    data = types.SimpleNamespace(
        unit_names=("AU12", "AU01"), units=lambda _: units, affect=lambda _: None
    )
    found = evaluate.extras_of(run, data, "test", np.array([0, 2]))
    np.testing.assert_array_equal(found, [[0, nan, 1, nan, nan], [1, nan, nan, nan, nan]])
    data.affect = lambda _: np.array([[0, 0.5], [1, 1], [-1, 0]], np.float32)
    found = evaluate.extras_of(run, data, "test", np.array([0, 2]))
    np.testing.assert_array_equal(found[:, 3:], [[0, 0.5], [-1, 0]])


def test_votes_follow_the_classes_of_the_network():
    run, names = run_of(("anger", "neutral")), ("neutral", "contempt", "anger")
    votes = np.array([[0.5, 0.3, 0.2], [0, 0.9, 0.1], [0.1, 0, 0.9]], np.float32)
    data = types.SimpleNamespace(label_names=names, votes=lambda _: votes)
    found = evaluate.votes_of(run, data, "test", np.array([0, 2]), "drop")
    np.testing.assert_allclose(found, [[2 / 7, 5 / 7], [0.9, 0.1]], rtol=1e-5)
    data.votes = lambda _: None
    assert evaluate.votes_of(run, data, "test", np.array([0, 2]), "drop") is None


HAAR, KEEP, ALIGN = {"margin": 0.1}, {"method": "keep"}, {"method": "align"}
SHIPPED = {"method": "shipped", "margin": 0.1}


def stored(name: str, crop: dict | None):
    """A data set of whole images (crop None) or of crops."""
    pictures = "whole" if crop is None else "face"
    metadata = {"pictures": pictures, "crop": crop and FaceCrop(**crop).to_json()}
    return types.SimpleNamespace(metadata=metadata, builder=types.SimpleNamespace(name=name))


@pytest.mark.parametrize(
    ("trained", "other", "is_own"),
    [
        (("synthetic_faces", None), ("synthetic_faces", None), True),
        (("synthetic_faces", None), ("kdef", HAAR), False),
        (("kdef", HAAR), ("synthetic_faces", None), False),
        (("kdef", HAAR), ("kdef", HAAR), True),
        (("kdef", HAAR), ("kdef", {"margin": 0.3}), False),
        (("kdef", HAAR), ("rafd", {**HAAR, "longest_side": 99}), True),
        (("kdef", HAAR), ("rafd", {**HAAR, "detector": "mtcnn"}), False),
        (("raf_db", ALIGN), ("affectnet", ALIGN), True),
        (("raf_db", ALIGN), ("affectnet", SHIPPED), False),
        (("fer2013", KEEP), ("ferplus", KEEP), True),
        (("fer2013", KEEP), ("ck_plus", KEEP), False),
        (("expw", SHIPPED), ("expw", SHIPPED), True),
        (("expw", SHIPPED), ("sfew", SHIPPED), False),
    ],
)
def test_images_are_framed_anew_where_they_are_stored_otherwise(trained, other, is_own):
    name, crop = trained
    margin = 0.05 if crop is None else None
    run = run_of(("anger",), margin, crop and FaceCrop(**crop).to_json(), name)
    assert reframing.is_own_framing(run, stored(*other)) is is_own


def test_a_stored_crop_is_framed_like_a_photo():
    """The stored square of a face has another margin; its pixels are those of prediction."""
    image = read_image(EXAMPLES / "1_happiness.jpg")
    height, width = image.shape[:2]
    image = np.ascontiguousarray(image[height // 8 : -height // 8, width // 8 : -width // 8])
    encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    wall = cv2.imencode(".png", np.full((90, 90, 3), 200, np.uint8))[1].tobytes()
    data = stored("kdef", HAAR)
    data.entries = [types.SimpleNamespace(id=one, subject="", digest=one) for one in "ab"]
    data.splits, data.label_names, data.full_name = {"test": np.array([0, 1])}, ("x",), "kdef"
    data.labels = lambda split: np.zeros(2, np.int32)
    data.record = lambda row: {
        "image": (encoded, wall)[row],
        "face_box": (0, 0, 9, 9),
        "landmarks": np.full((5, 2), np.nan),
    }
    run = run_of(("x",), 0.05, None, "synthetic_faces", size=48)
    framed = reframing.open_framed(run, data, "test")
    shown, unfound = (framed.split.read(row) for row in range(2))
    (face,) = FaceFinder(framing_of(run), 0.3, "mtcnn").find(image)
    np.testing.assert_array_equal(shown, face.pixels)
    assert (unfound == 200).all()
    (note,) = framed.notes
    assert "(faces: 1 mtcnn, 1 stored)" in note
    given = reframing.open_framed(run, data, "test", "whole")
    assert list(given.notes) == []
    assert given.split.read(0).shape == (48, 48, 3)
    assert np.abs(given.split.read(0).astype(int) - shown).mean() > 5
