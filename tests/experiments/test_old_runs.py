"""Runs and prepared data of format 3 still open, evaluate and predict with the same numbers.

`fixture/format_3.zip` holds two runs of `tests/tiny_network.py` (one with a moving average of the
weights), their reports, and the prepared images, as version 0.1.0 wrote them before the run
directory's format became 4.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fer_jax
from fer_jax import run_dir
from fer_jax.data.records import decode_all, open_split
from fer_jax.experiments import evaluate
from fer_jax.models import registry
from fer_jax.report import predictions
from tests.tiny_network import Tiny
from tfds_builders import duplicates

ARCHIVE = Path(__file__).parent / "fixture" / "format_3.zip"


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> None:
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))


@pytest.mark.parametrize("name", ["plain", "averaged"])
def test_an_old_run_evaluates_and_predicts_the_same_numbers(old, name):
    run = run_dir.open_run(old / name)
    stored = json.loads((run.report / "report.json").read_text())
    before = predictions.load(run.report / "predictions.csv")
    other = evaluate.OtherData(data_dir=str(old / "tfds"))

    found = evaluate.run_evaluation(run, "test", other)
    assert found.predictions.ids == before.ids
    np.testing.assert_allclose(
        found.predictions.probabilities, before.probabilities, rtol=0, atol=1e-6
    )
    assert found.card.step == stored["card"]["step"]
    assert found.card.averaged == (name == "averaged") == stored["card"]["averaged"]

    # Their near-duplicates are found again; what they learned from is not recorded.
    data = evaluate.open_data(run, other)
    assert data.looks.shape == (len(data.entries), duplicates.LOOK_BYTES)
    assert (Path(data.builder.data_dir) / "looks.npy").is_file()
    assert found.card.overlap.unknown == (name,)
    faces = decode_all(open_split(data, "test", run.preprocessing)).images
    model = fer_jax.load(old / name)
    np.testing.assert_allclose(model.predict_faces(faces), before.probabilities, rtol=0, atol=1e-5)
