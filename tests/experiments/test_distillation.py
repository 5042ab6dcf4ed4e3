"""A student learns its teachers' probabilities, and counts as having seen what they have seen."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.errors import UserError
from fer_jax.experiments import crossval, evaluate
from fer_jax.experiments.distillation import teach
from fer_jax.models import registry
from fer_jax.training import teacher
from fer_jax.training.session import make_session
from tests import commands
from tests.experiments.test_leaks import Runs, write_folder
from tests.tiny_network import Tiny


class School(Runs):
    """Two teachers of the same people, one of a larger size; the student sees other people."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_folder(root / "faces", range(9))
        write_folder(root / "others", range(20, 29))
        self.start("near", "faces")
        self.start("far", "faces", size=12, seed=1)
        (root / "near" / run_dir.CALIBRATION).write_text('{"temperature": 0.25, "step": 0}')

    def settings(self, faces: str, size: int = 8, seed: int = 0, **train):
        settings = super().settings(faces)
        return dataclasses.replace(
            settings,
            seed=seed,
            data=dataclasses.replace(settings.data, size=size),
            train=dataclasses.replace(settings.train, **train),
        )

    def teachers(self, *names: str) -> tuple[str, ...]:
        return tuple(str(self.root / name) for name in names)


@pytest.fixture(scope="module")
def school(tmp_path_factory) -> School:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
        yield School(tmp_path_factory.mktemp("school"))


def start(school: School, folder: Path, **train):
    settings = school.settings("others", **train)
    teach(settings, folder)
    return make_session(settings, folder)


def test_targets_are_what_evaluate_says_of_the_training_images(school, tmp_path):
    session = start(school, tmp_path / "pupil", teacher=school.teachers("near", "far"))
    expected = np.zeros((len(session.training), 3))
    for name in ("near", "far"):  # each at its size, without its temperature
        run = run_dir.open_run(school.root / name)
        found = evaluate.run_evaluation(run, "train", school.other("others", "fold1of3"))
        assert found.records.ids == session.training.ids
        order = [run.labels.index(label) for label in session.training.label_names]
        _, probabilities = evaluate.predict_records(run, found.records, is_calibrated=False)
        expected += 0.5 * probabilities[:, order]
    np.testing.assert_allclose(session.training.targets, expected, atol=1e-5)
    assert session.validation.targets is None
    assert "distilled from near on image_folder" in evaluate.describe_training(session.run)


def test_a_resumed_run_needs_its_teachers_no_more(school, tmp_path):
    shutil.copytree(school.root / "near", tmp_path / "gone")
    names = (str(tmp_path / "gone"),)
    before = start(school, tmp_path / "pupil", teacher=names)
    school.save(before)
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    after = start(school, tmp_path / "pupil", teacher=names)
    np.testing.assert_array_equal(after.training.targets, before.training.targets)
    assert after.run.identity == before.run.identity
    assert len(run_dir.read_learned(after.run)) == 18 + 18
    with pytest.raises(UserError, match=r"train\.teacher: "):
        start(school, tmp_path / "pupil", teacher=school.teachers("far"))
    (tmp_path / "pupil" / teacher.FILE).write_bytes(b"damaged")
    with pytest.raises(UserError, match="restore the file or choose another --workdir"):
        start(school, tmp_path / "pupil", teacher=names)


@pytest.mark.parametrize(
    ("protocol", "leaks"),
    [
        pytest.param("fold1of3", False, id="unseen", marks=pytest.mark.slow),
        pytest.param("fold2of3", True, id="seen"),
    ],
)
def test_what_a_teacher_has_seen_is_a_leak(school, tmp_path, protocol, leaks):
    session = start(school, tmp_path / "pupil", teacher=school.teachers("near"))
    school.save(session)
    paths = evaluate.evaluate(session.run, "test", school.other("faces", protocol))
    report = json.loads(paths.json.read_text())
    assert any(line.startswith("LEAK") for line in report["warnings"]) == leaks
    assert "distilled from near" in " ".join(paths.text.read_text().split())


@pytest.mark.slow
def test_a_cross_validation_refuses_a_teacher_that_saw_its_people(school, tmp_path):
    settings = school.settings("faces", teacher=school.teachers("far"))
    with pytest.raises(UserError, match=r"teachers that have not seen .*config.train.teacher"):
        crossval.crossval(settings, tmp_path, folds=3, seeds=(0,))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("nothing", "expected a run directory with a run.json, found none at nothing"),
        ("gs://bucket/run", "gs://bucket/run"),
        ("near,near", "expected different runs for train.teacher, found one twice"),
        ("near", "the student's classes (surprise, fear, anger), found near, which lacks fear"),
    ],
    ids=("missing", "url", "twice", "classes"),
)
def test_wrong_teachers_are_refused(school, tmp_path, monkeypatch, capsys, names, message):
    monkeypatch.chdir(school.root)
    faces = shutil.copytree(school.root / "others", tmp_path / "faces")
    (faces / "happiness").rename(faces / "fear")
    table = faces / "subjects.csv"
    table.write_text(table.read_text().replace("happiness", "fear"))
    with pytest.raises(SystemExit, match="2"):
        commands.run(
            "train", "--config=image_folder", f"--workdir={tmp_path / 'pupil'}",
            f"--config.data.manual_dir={faces}", f"--config.data.dir={tmp_path}",
            "--config.data.protocol=fold1of3", "--config.data.size=8",
            "--config.model.name=tiny", "--config.model.dropout=none",
            f"--config.train.teacher={names}",
        )  # fmt: skip
    found = capsys.readouterr()
    assert message in found.err
    assert not (tmp_path / "pupil").exists()
