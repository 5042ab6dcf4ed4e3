"""The TFDS data set: the shipped archives, and a round trip through array_record."""

from __future__ import annotations

import collections
import pathlib
import pickle

import cv2
import numpy as np
import pytest

from fer_jax import errors, labels
from tfds_builders.synthetic_faces import fixture, splits
from tfds_builders.synthetic_faces.synthetic_faces_dataset_builder import Builder
from tfds_builders.synthface import ACTION_UNITS, render_subject, sets

DEMO = splits.specs("demo")


def test_shipped_archives_are_complete_balanced_and_disjoint() -> None:
    people: list[str] = []
    for split, spec in DEMO.items():
        truths = [record.truth for record in fixture.read(split)]
        assert len(truths) == spec.subjects * 7
        counts = collections.Counter(truth["expression"] for truth in truths)
        assert counts == dict.fromkeys(labels.SEVEN, spec.subjects)
        yaws = collections.Counter(truth["yaw"] for truth in truths)
        assert set(yaws) == {-45, 0, 45}
        assert max(yaws.values()) < 1.3 * min(yaws.values())
        people += {truth["subject"] for truth in truths}
    assert len(people) == len(set(people)) == 480
    size = sum(fixture.path(split).stat().st_size for split in DEMO)
    assert 3e6 < size < 6e6


def test_shipped_images_match_the_renderer() -> None:
    """After a change of the renderer, raise spec.RENDERER and run the fixture's command."""
    rendered = sets.subject_records(DEMO["validation"], 0)
    shipped = list(fixture.read("validation"))[: len(rendered)]
    for actual, expected in zip(rendered, shipped, strict=True):
        assert actual.truth == expected.truth
        # Not equal bytes: processors round some pixels differently.
        assert np.abs(_decode(actual.jpeg) - _decode(expected.jpeg)).mean() < 0.2


def _decode(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)


def test_seeds_of_the_splits_never_change() -> None:
    assert splits.SEEDS == {"train": 1, "validation": 2, "test": 3}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """A small kdef_like set, rendered and prepared."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    builder = Builder(
        config="kdef_like", size=24, people=(2, 1, 1), workers=1, data_dir=folder,
        file_format="array_record",
    )  # fmt: skip
    builder.download_and_prepare()
    return builder


def test_round_trip_to_array_record(built: Builder) -> None:
    people: list[bytes] = []
    for split, count in {"train": 2, "validation": 1, "test": 1}.items():
        source = built.as_data_source(split)
        assert len(source) == count * 70
        records = [source[i] for i in range(len(source))]
        assert collections.Counter(r["label"] for r in records) == dict.fromkeys(
            range(7), count * 10
        )
        people += {record["subject"] for record in records}
    assert len(people) == len(set(people)) == 4


def test_records_match_the_rendered_faces(built: Builder) -> None:
    spec = built.specs["test"]
    faces = {face.id: face for face in render_subject(spec, 0)}
    for record in built.as_data_source("test"):
        face = faces.pop(record["id"].decode())
        assert built.info.features["label"].names[record["label"]] == face.expression
        assert record["image"].shape == (24, 24, 3)
        assert np.abs(record["image"].astype(int) - face.image).mean() < 10
        assert tuple(record["face_box"]) == face.face_box
        assert record["face_source"] == b"truth"
        assert record["yaw"] == face.yaw
        assert record["action_units"].shape == (len(ACTION_UNITS),)
        for unit, strength in face.action_units.items():
            index = built.info.metadata["action_units"].index(unit)
            assert record["action_units"][index] == pytest.approx(strength, abs=1e-3)
        assert record["sex"] == pytest.approx(face.sex, abs=1e-3)
    assert not faces


def test_metadata(built: Builder) -> None:
    metadata = built.info.metadata
    assert metadata["label_names"] == list(labels.SEVEN)
    assert metadata["pictures"] == "whole"
    assert metadata["group"] == "subject"
    assert metadata["protocols"]["subject"] == {"leaks": 0, "near_duplicates": 0}
    assert (metadata["synthetic"], metadata["stand_in"], metadata["derived_labels"]) == (
        True, False, False,
    )  # fmt: skip
    assert "CC0" in built.info.description
    assert built.info.citation


def test_overrides_change_the_folder_and_survive_pickling(built: Builder) -> None:
    assert built.info.full_name == "synthetic_faces/kdef_like_24px_2_1_1/2.0.0"
    assert pickle.loads(pickle.dumps(built)).specs == built.specs


def test_demo_needs_no_rendering(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfds_builders.synthface.sets.generate", None)
    builder = Builder(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 2240, "validation": 420, "test": 700}


def test_damaged_fixture_is_a_user_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixture, "FOLDER", tmp_path)
    (tmp_path / "train.zip").write_bytes(b"PK")
    with pytest.raises(errors.UserError, match="reinstall"):
        list(fixture.read("train"))
