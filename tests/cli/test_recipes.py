"""Whole runs with many options: exact resume, output, preview."""

from __future__ import annotations

import json
import signal

import cv2
import jax
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax import run_dir as run_directory
from fer_jax.cli import preview
from fer_jax.experiments import evaluate
from fer_jax.models import registry
from fer_jax.training import train
from fer_jax.training.build import make_model
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.loop import InterruptedRunError, Loop
from fer_jax.training.recipe import make_recipe
from fer_jax.training.stages import make_stages
from fer_jax.training.state import create_state
from tests.tiny_network import Tiny


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))


@pytest.fixture(scope="module")
def settings(data_dir) -> list[str]:
    return [
        "model.name=tiny", "model.dropout=none", f"data.dir={data_dir}", "data.size=8",
        "train.epochs=60st", "train.eval_epochs=10st", "train.log_steps=10%", "train.pictures=0",
        "eval.samples=0", "eval.explain=false", "eval.tta=flip", "train.accumulate=2",
        "train.balance=sqrt",
        "train.monitor=loss", "optim.schedule=plateau", "optim.plateau_patience=1",
        # High enough for some validations to get worse.
        "optim.learning_rate=0.05", "optim.ema_decay=0.5", "augment.rotation=0",
        "augment.zoom=0", "augment.shift=0",
    ]  # fmt: skip


def last_checkpoint(folder):
    run = run_directory.open_run(folder)
    model = make_model(run.settings, len(run.labels))
    optimizer = make_stages(run.settings, model)[0].optimizer
    template = create_state(model, optimizer, 8, 0, make_recipe(run.settings))
    with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
        return checkpoints.restore_latest(lambda _: template)


@pytest.mark.slow
def test_a_stopped_run_resumes_its_plateau_and_moving_average(
    settings, tmp_path, monkeypatch, capsys
):
    config = configuration.load_settings("demo", settings)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train.train(config, whole)
    said = capsys.readouterr()
    assert "class shares in training: neutral 14.3%" in said.out
    expected = last_checkpoint(whole)
    scale = expected.loop_state["plateau"]["scale"]
    assert scale < 1  # it was lowered
    assert float(expected.state.rate_scale) == pytest.approx(scale)
    assert "learning rate scaled by" in said.err

    real = Loop._dispatch

    def dispatch(loop, first, last):
        real(loop, first, last)
        if first in (24, 47):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Loop, "_dispatch", dispatch)
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            train.train(config, stopped)
    run = train.train(config, stopped)
    found = last_checkpoint(stopped)
    jax.tree.map(np.testing.assert_array_equal, expected.state, found.state)
    forget = {"seconds": 0}
    assert {**expected.loop_state, **forget} == {**found.loop_state, **forget}
    logged = [(folder / "metrics.jsonl").read_text() for folder in (whole, stopped)]
    assert logged[0] == logged[1]
    rates = [row["learning_rate"] for row in map(json.loads, logged[0].splitlines())
             if "learning_rate" in row]  # fmt: skip
    assert rates[-1] < 0.05

    text = evaluate.evaluate(run, "validation").text.read_text()
    assert "test-time aug.  flip: mean of 2 views" in text
    assert "moving average at step" in text


def test_preview_draws_the_training_images(data_dir, tmp_path, capsys):
    out = tmp_path / "grid.png"
    arguments = [
        "--config=configs/demo.py", f"--config.data.dir={data_dir}", f"--out={out}",
        "--images=2", "--config.data.size=16", "--config.augment.erase", "0.5",
    ]  # fmt: skip
    preview.main(arguments)
    grid = cv2.imread(str(out))
    # Columns: the originals, the demo's six changes, erasing, and four steps of training.
    assert grid.shape == (38 + 2 * 100, 12 * 96 + 11 * 4 + 2 * 14, 3)
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert str(out) in capsys.readouterr().out
