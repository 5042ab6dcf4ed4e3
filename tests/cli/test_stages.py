"""Training in stages: first the head, then all that is not frozen; resuming, report."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax import run_dir as run_directory
from fer_jax.cli import train as main
from fer_jax.errors import UserError
from fer_jax.models import registry
from fer_jax.training import train
from fer_jax.training.build import make_model
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.loop import Loop
from fer_jax.training.stages import make_stages
from fer_jax.training.state import create_state
from tests.tiny_network import Tiny


@pytest.fixture
def settings(monkeypatch, data_dir) -> list[str]:
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
    return [
        "model.name=tiny", "model.dropout=none", f"data.dir={data_dir}", "data.size=8",
        "train.epochs=3", "train.eval_epochs=1", "eval.samples=0", "eval.explain=false",
    ]  # fmt: skip


def checkpoint(folder: Path, step: int):
    """Returns the state and loop state of a run at a step."""
    run = run_directory.open_run(folder)
    model = make_model(run.settings, len(run.labels))
    stages = make_stages(run.settings, model, 1)
    with Checkpoints(run.checkpoints) as checkpoints:
        return checkpoints.restore(
            step, lambda memory: create_state(model, stages[memory["stage"]].optimizer, 8, 0)
        )


def backbone(state) -> list[np.ndarray]:
    trees = (state.params["backbone"], state.batch_stats["backbone"])
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trees)]


def rates(folder: Path) -> dict[int, float]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["learning_rate"] for row in rows if "learning_rate" in row}


def test_the_head_first_then_all(settings, tmp_path):
    config = configuration.load_settings(
        "demo", [*settings, "train.epochs=2", "train.head_epochs=1"]
    )
    train.train(config, tmp_path / "run")
    model = make_model(config, 7)
    initial = create_state(model, make_stages(config, model, 1)[0].optimizer, 8, 0)
    first, last = checkpoint(tmp_path / "run", 35), checkpoint(tmp_path / "run", 70)
    assert (first.loop_state["stage"], last.loop_state["stage"]) == (0, 1)
    for begun, after in zip(backbone(initial), backbone(first.state), strict=True):
        np.testing.assert_array_equal(begun, after)
    assert any(not np.array_equal(*pair) for pair in zip(
        backbone(first.state), backbone(last.state), strict=True))  # fmt: skip
    assert len(jax.tree.leaves(first.state.opt_state)) < len(jax.tree.leaves(last.state.opt_state))
    found = rates(tmp_path / "run")
    assert max(found[step] for step in found if step <= 35) > 5e-4
    assert max(found[step] for step in found if step > 35) <= 1e-4


@pytest.mark.slow
def test_a_run_stopped_in_any_stage_ends_bit_identical(settings, tmp_path, monkeypatch):
    overrides = [*settings, "train.head_epochs=1"]
    train.train(configuration.load_settings("demo", overrides), tmp_path / "whole")
    real, limits = Loop._log, [0]

    class StoppedError(Exception):
        pass

    def stop_there(loop):
        real(loop)
        if loop.step >= limits[0]:
            raise StoppedError

    monkeypatch.setattr(Loop, "_log", stop_there)
    for limits[0] in (20, 35, 70):  # during the head's stage, at its end, after it
        with pytest.raises(StoppedError):
            train.train(configuration.load_settings("demo", overrides), tmp_path / "parts")
    monkeypatch.setattr(Loop, "_log", real)
    train.train(configuration.load_settings("demo", overrides), tmp_path / "parts")
    whole, parts = (checkpoint(tmp_path / name, 105) for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, whole.state, parts.state)


@pytest.mark.slow
def test_a_frozen_run_is_reported(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [f"--config.{setting}" for setting in [*settings, "model.freeze=backbone"]]
    main.main(["--config=configs/demo.py", "--workdir=run", *arguments])
    assert "macro avg" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.head_epochs=3"], "train.head_epochs below train.epochs=3, found 3"),
        (["model.freeze=block9"], "found 'block9'.*blocks in order: block1_conv1"),
    ],
)
def test_invalid_stages_are_refused(settings, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        train.train(configuration.load_settings("demo", [*settings, *overrides]), tmp_path / "run")
