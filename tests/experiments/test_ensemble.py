"""An ensemble averages the probabilities of its members, and leaks if one of them does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.errors import UserError
from fer_jax.experiments import ensemble, evaluate
from fer_jax.models import registry
from fer_jax.report import predictions as saved
from tests import commands
from tests.experiments.test_leaks import Runs, write_folder
from tests.tiny_network import Tiny


class Trio(Runs):
    """Two seeds of a run, and one that learned from the people whom they are tested on."""

    def __init__(self, root: Path) -> None:
        self.root, self.seed = root, 0
        write_folder(root / "faces", range(9))
        for self.seed, name, protocol in ((0, "a", "fold1of3"), (1, "b", "fold1of3"),
                                          (2, "leaky", "fold2of3")):  # fmt: skip
            self.start(name, "faces", protocol=protocol)

    def settings(self, faces: str, *args, **kwargs):
        settings = super().settings(faces, *args, **kwargs)
        return dataclasses.replace(settings, seed=self.seed)


@pytest.fixture(scope="module")
def trio(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
        yield Trio(tmp_path_factory.mktemp("trio")).root


def warnings_of(folder: Path) -> list[str]:
    report = json.loads((folder / "report.json").read_text())
    return [line.split(":")[0] for line in report["warnings"]]


def test_it_averages_the_calibrated_probabilities_of_its_members(trio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calibration = trio / "b" / run_dir.CALIBRATION
    calibration.write_text(json.dumps({"temperature": 0.25, "step": 0}))
    members = [evaluate.run_evaluation(run_dir.open_run(trio / name), "test") for name in "ab"]
    expected = np.mean([one.predictions.probabilities for one in members], axis=0)
    commands.run("evaluate", trio / "a", trio / "b", "--abstain", "0.4")
    (folder,) = Path("runs/a+b/evaluations").iterdir()
    assert folder.name.endswith("-fold1of3-test")
    found = saved.load(folder / "predictions.csv")
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert np.abs(found.probabilities - members[0].predictions.probabilities).max() > 1e-3
    report = json.loads((folder / "report.json").read_text())
    assert report["card"]["run"] == "a + b"
    assert report["card"]["members"] == 2
    assert report["card"]["parameters"] == 2 * members[0].card.parameters
    assert report["abstention"]["threshold"] == 0.4
    assert "LEAK" not in warnings_of(folder)
    page = (folder / "index.html").read_text()
    assert "mean of 2 networks (tiny)" in page
    assert "temperature 0.25; learned from 0 of" in page
    assert "each run&#39;s calibration" in page


def test_one_member_that_saw_the_images_makes_it_leak(trio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands.run("evaluate", trio / "a", trio / "leaky")
    (folder,) = Path("runs/a+leaky/evaluations").iterdir()
    assert "LEAK" in warnings_of(folder)


def test_a_member_with_unknown_records_makes_it_unchecked(trio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learned = trio / "b" / run_dir.LEARNED
    content = learned.read_bytes()
    learned.unlink()
    try:
        commands.run("evaluate", trio / "a", trio / "b")
    finally:
        learned.write_bytes(content)
    (folder,) = Path("runs/a+b/evaluations").iterdir()
    assert "UNCHECKED" in warnings_of(folder)


def test_classes_are_matched_by_name(trio):
    one = evaluate.run_evaluation(run_dir.open_run(trio / "a"), "test")
    names = one.predictions.label_names
    turned = dataclasses.replace(
        one.predictions, label_names=names[::-1], labels=len(names) - 1 - one.predictions.labels,
        probabilities=one.predictions.probabilities[:, ::-1],
    )  # fmt: skip
    mean = ensemble.mean_predictions([one, dataclasses.replace(one, predictions=turned)])
    np.testing.assert_allclose(mean.probabilities, one.predictions.probabilities)


def test_runs_that_cannot_be_averaged_are_refused(trio):
    runs = [run_dir.open_run(trio / name) for name in ("a", "a")]
    with pytest.raises(UserError, match="different runs for an ensemble"):
        ensemble.evaluate_ensemble(runs, "test", evaluate.OWN_DATA)
    other = dataclasses.replace(runs[0], folder=trio / "b", labels=("anger", "fear"))
    with pytest.raises(UserError, match="runs with the same classes"):
        ensemble.evaluate_ensemble([runs[0], other], "test", evaluate.OWN_DATA)
    one = evaluate.run_evaluation(runs[0], "test")
    shifted = dataclasses.replace(one.predictions, ids=one.predictions.ids[::-1])
    with pytest.raises(UserError, match="the same images for all runs"):
        ensemble.mean_predictions([one, dataclasses.replace(one, predictions=shifted)])


def test_a_long_name_is_shortened(trio):
    runs = [run_dir.open_run(trio / "a")] * 60
    name = ensemble.ensemble_name(runs)
    assert len(name) == 80
    assert name != ensemble.ensemble_name(runs[1:])
