"""Tests of runs with the weights of another run as initial weights."""

from __future__ import annotations

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax.errors import UserError
from fer_jax.experiments import evaluate
from fer_jax.heads import Heads
from fer_jax.runtime import sharding
from fer_jax.training import initial_weights, train
from fer_jax.training.build import make_model
from fer_jax.training.stages import make_stages
from fer_jax.training.state import create_state
from tests import commands


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, data_dir):
    """Returns a run of one epoch and its settings."""
    settings = [
        f"data.dir={data_dir}", "data.size=8", "data.normalize=unit", "train.epochs=1",
        "train.eval_epochs=1", "optim.learning_rate=1e-4",
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("teacher") / "teacher"
    train.train(configuration.load_settings("demo", settings), folder)
    return folder, [setting for setting in settings if "normalize" not in setting]


def begin(teacher, labels, *overrides):
    """Returns the initial weights, and the parameters of a new state before and after loading."""
    folder, settings = teacher
    overrides = (*settings, f"model.pretrained={folder}", *overrides)
    config = configuration.load_settings("demo", overrides)
    found = initial_weights.find_initial_weights(config, sharding.data_mesh())
    model = make_model(config, len(labels))
    stage = make_stages(config, model, 1)[0]
    state = create_state(model, stage.optimizer, config.data.size, seed=5)
    params, _, said = initial_weights.load_initial_weights(
        found, state.params, state.batch_stats, labels, Heads(len(labels))
    )
    return found, state.params, params, said


def test_with_the_same_classes_all_weights_are_loaded(teacher):
    labels = initial_weights.run_dir.open_run(teacher[0]).labels
    found, _, after, said = begin(teacher, labels)
    jax.tree.map(np.testing.assert_array_equal, after, dict(found.params))
    assert said.endswith("classifier included")


@pytest.mark.parametrize("labels", [("a", "b"), tuple("abcdefg")])
def test_with_other_classes_the_classifier_is_random(teacher, labels):
    found, before, after, said = begin(teacher, labels)
    jax.tree.map(np.testing.assert_array_equal, after["head"], before["head"])
    assert after["head"]["bias"].shape == (len(labels),)
    for name in set(after) - {"head"}:
        jax.tree.map(np.testing.assert_array_equal, after[name], found.params[name])
    assert said.endswith("with a new classifier")


def test_the_classifier_of_shared_classes_is_loaded_by_name(teacher):
    old = initial_weights.run_dir.open_run(teacher[0]).labels
    labels = ("bored", old[3], old[0])
    found, before, after, said = begin(teacher, labels)
    for name in ("kernel", "bias"):
        stored, fresh, loaded = (tree["head"][name] for tree in (found.params, before, after))
        np.testing.assert_array_equal(loaded[..., 1], stored[..., 3])
        np.testing.assert_array_equal(loaded[..., 2], stored[..., 0])
        np.testing.assert_array_equal(loaded[..., 0], fresh[..., 0])
    assert said.endswith("with its classifier of 2 of 3 classes")


def test_a_run_starts_from_the_weights_and_reports_them(teacher, tmp_path, capsys):
    folder, settings = teacher
    overrides = [*settings, f"model.pretrained={folder}", "eval.samples=0", "eval.explain=false"]
    run = train.train(configuration.load_settings("demo", overrides), tmp_path / "pupil")
    assert "initial weights: the run" in capsys.readouterr().out
    assert run.preprocessing.normalize == "unit"  # the teacher's normalization
    evaluate.print_report(evaluate.evaluate(run, "validation"))
    assert "the run teacher on synthetic_faces/demo" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_resumes_without_its_initial_weights(teacher, tmp_path, capsys):
    folder = shutil.copytree(teacher[0], tmp_path / "teacher")
    config = configuration.load_settings("demo", [*teacher[1], f"model.pretrained={folder}"])
    run = train.train(config, tmp_path / "pupil")
    shutil.rmtree(folder)
    capsys.readouterr()
    again = train.train(config, tmp_path / "pupil")
    assert (again.weights, again.preprocessing) == (run.weights, run.preprocessing)
    assert "it began with" not in capsys.readouterr().out

    for checkpoint in run.checkpoints.iterdir():
        shutil.rmtree(checkpoint / "state")
    with pytest.raises(UserError, match=f"expected .* at {folder}, found no file"):
        train.train(config, tmp_path / "pupil")


def test_initial_weights_are_compared_when_a_run_resumes(teacher, tmp_path):
    folder, settings = teacher
    settings = [*settings, "data.normalize=unit"]
    train.train(configuration.load_settings("demo", settings), tmp_path / "pupil")
    with pytest.raises(UserError, match=r"sha256 of the weights: None then, '\w+' now"):
        train.train(
            configuration.load_settings("demo", [*settings, f"model.pretrained={folder}"]),
            tmp_path / "pupil",
        )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.size=12", r"do not fit the network: expected .*head1/kernel .*data.size=8"),
        ("model.name=custom_cnn", "trained light_vgg, the network is custom_cnn"),
    ],
)
def test_another_network_is_refused(teacher, override, message):
    with pytest.raises(UserError, match=message):
        begin(teacher, tuple("abcdefg"), override)


def test_a_folder_without_a_run_is_refused(teacher, tmp_path):
    with pytest.raises(UserError, match="expected a run directory"):
        begin((tmp_path, teacher[1]), tuple("abcdefg"))


def test_different_weights_have_different_hashes(teacher):
    found, *_ = begin(teacher, tuple("abcdefg"))
    stored = found.to_json()
    assert stored["file"] == "teacher"
    assert len(stored["sha256"]) == 64
    assert dataclasses.replace(found, sha256="x").to_json() != stored


def test_preview_takes_the_runs_that_training_takes(teacher, tmp_path, capsys):
    """Its images are normalized, and so shown, as those of the run that it starts from."""
    folder, settings = teacher
    flags = [f"--config.{setting}" for setting in (*settings, f"model.pretrained={folder}")]
    out = tmp_path / "grid.png"
    commands.run("preview", "--config=configs/demo.py", *flags, "--images=2", f"--out={out}")
    assert out.exists()
    assert str(out) in capsys.readouterr().out
