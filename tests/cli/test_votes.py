"""Training on the votes of people, from FER+'s files to the report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.models import registry
from fer_jax.report import predictions
from tests import commands
from tests.tiny_network import Tiny
from tfds_builders import prepare
from tfds_builders.stand_ins import write as stand_in

FLAGS = [
    f"--config.{field}"
    for field in (
        "model.name=tiny", "model.dropout=none", "model.widths=none", "model.head_widths=none",
        "data.size=8", "data.store=device",
        "data.targets=votes", "augment.mixup=0.5", "train.epochs=4st", "train.eval_epochs=2st",
        "train.batch_size=16", "train.pictures=0", "eval.batch_size=32", "eval.samples=0",
        "eval.explain=false",
    )
]  # fmt: skip


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))


@pytest.mark.slow
def test_from_files_to_a_report_that_compares_with_the_votes(tmp_path):
    manual_dir = stand_in.write("ferplus", tmp_path / "files", 0.001)
    data = [f"--config.data.dir={tmp_path}", f"--config.data.manual_dir={manual_dir}"]
    commands.run("train", "--config=ferplus", f"--workdir={tmp_path / 'run'}", *data, *FLAGS)
    run = run_dir.open_run(tmp_path / "run")
    saved = predictions.load(run.report / "predictions.csv")
    votes = prepare.prepare("ferplus", None, str(tmp_path), str(manual_dir)).votes("test")
    agreement = float(votes[np.arange(len(votes)), saved.predicted].mean())
    assert json.loads((run.report / "report.json").read_text())["votes"] == {
        "divergence": pytest.approx(float((votes * np.log(np.where(votes > 0, votes, 1)
                                    / saved.probabilities)).sum(axis=1).mean()), rel=1e-4),
        "agreement": pytest.approx(agreement, rel=1e-5),
        "ceiling": pytest.approx(float(votes.max(axis=1).mean()), rel=1e-5),
    }  # fmt: skip
    assert f"{agreement:.4f} of the votes" in (run.report / "report.txt").read_text()


def test_a_set_without_votes_is_refused(data_dir, tmp_path, capsys):
    arguments = ["--config=demo", f"--workdir={tmp_path / 'run'}", f"--config.data.dir={data_dir}"]
    with pytest.raises(SystemExit, match="2"):
        commands.run("train", *arguments, *FLAGS)
    message = capsys.readouterr().err
    assert "found synthetic_faces/demo" in message
    assert "--config.data.targets=majority" in message
