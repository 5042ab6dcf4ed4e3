"""What choosing the epoch on test is worth is shown with a stamp, and nowhere else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.data.records import decode_all, open_split
from fer_jax.experiments import best_on_test, comparison, evaluate
from fer_jax.models import registry
from fer_jax.monitor.summary_csv import FILE, SummaryTable
from fer_jax.training.build import make_model
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.session import make_session
from fer_jax.training.state import create_state
from tests import commands
from tests.experiments.test_leaks import Runs, write_folder
from tests.tiny_network import Tiny

STEPS = (5, 10, 15)


class Epochs(Runs):
    """A run with three checkpoints, of which validation chose the worst on test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_folder(root / "faces", range(9))
        session = make_session(self.settings("faces"), root / "run")
        self.run = session.run
        states = [
            create_state(session.model, session.stages[0].optimizer, 8, seed, session.recipe)
            for seed in range(3)
        ]
        self.expected = [self.test_accuracy(state.variables) for state in states]
        self.chosen = STEPS[int(np.argmin(self.expected))]
        table = SummaryTable(self.run.folder / FILE)
        with Checkpoints(self.run.checkpoints, keep=3, identity=self.run.identity) as checkpoints:
            for step, state in zip(STEPS, states, strict=True):
                loop_state = {"stopping": {"best_step": self.chosen}, "stage": 0, "seconds": 0.0}
                state = dataclasses.replace(state, step=jnp.asarray(step, state.step.dtype))
                checkpoints.save(state, loop_state)
                accuracy = 0.5 + 0.25 * (step == self.chosen)
                table.add({"step": step, "validation_accuracy": accuracy})
            checkpoints.wait()

    def test_accuracy(self, variables) -> float:
        records = decode_all(open_split(evaluate.open_data(self.run), "test",
                                        self.run.preprocessing))  # fmt: skip
        inputs = self.run.preprocessing.normalized(jnp.asarray(records.images))
        model = make_model(self.run.settings, 3)
        logits = model.apply(variables, inputs, train=False)
        return float((np.asarray(logits).argmax(axis=1) == records.labels).mean())


@pytest.fixture(scope="module")
def epochs(tmp_path_factory) -> Epochs:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
        yield Epochs(tmp_path_factory.mktemp("epochs"))


def test_the_stamp_is_everywhere_and_the_reported_figures_stay(epochs, capsys):
    folder = epochs.run.folder
    commands.run("evaluate", folder)
    (before,), _ = comparison.read_runs([folder])
    report = (folder / "report" / "report.json").read_bytes()
    capsys.readouterr()
    commands.run("evaluate", folder, "--best_epoch_on_test")
    printed = " ".join(capsys.readouterr().out.split())
    found = json.loads((folder / best_on_test.FOLDER / "best_on_test.json").read_text())
    assert [one["test"] for one in found["epochs"]] == pytest.approx(epochs.expected)
    assert found["chosen"] == epochs.chosen
    best, chosen = max(epochs.expected), min(epochs.expected)
    assert best > chosen
    page = (folder / best_on_test.FOLDER / "index.html").read_text()
    stamp = f"NOT TO BE REPORTED: the best epoch on test would have been {best:.4f}"
    for text in (printed, found["warning"], page):
        assert stamp in text
        assert f"Validation chose step {epochs.chosen}, with {chosen:.4f} on test" in text
    assert (folder / "report" / "report.json").read_bytes() == report
    (after,), remarks = comparison.read_runs([folder])
    assert (after, remarks) == (before, [])
    assert after.accuracy == pytest.approx(chosen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "validation"), "found --split"),
        (("ferplus",), "found 2 runs"),
        ((), "every validation in run, found 3 of 4; train a run that keeps them: "),
    ],
    ids=("flag", "runs", "checkpoints"),
)  # fmt: skip
def test_what_it_cannot_answer_is_refused(epochs, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(epochs.root)
    table = Path("run") / FILE
    content = table.read_text()
    if not arguments:
        SummaryTable(table, 15).add({"step": 20, "validation_accuracy": 0.5})
    try:
        with pytest.raises(SystemExit, match="2"):
            commands.run("evaluate", "run", *arguments, "--best_epoch_on_test")
    finally:
        table.write_text(content)
    assert message in capsys.readouterr().err
    assert run_dir.open_run(Path("run")).labels == epochs.run.labels
