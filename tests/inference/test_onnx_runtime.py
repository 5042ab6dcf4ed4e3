"""Predictions in ONNX Runtime: the same answers, without JAX, and JAX where it has to be."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.inference import onnx_runtime, program
from fer_jax.inference.model import Model
from fer_jax.inference.network import Network
from fer_jax.inference.onnx_graph import UnsupportedError
from fer_jax.inference.onnx_runtime import Graph
from tests.small_runs import SIZE, write_run

pytestmark = pytest.mark.slow  # they need the extra `onnx`, which `make check` installs

FACES = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), np.uint8)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _enabled(tmp_path, monkeypatch):
    """ONNX Runtime is on, with an empty cache, and the faster one on any machine."""
    monkeypatch.setenv(onnx_runtime.VARIABLE, "1")
    monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(onnx_runtime, "_milliseconds", lambda *_: (2.0, 1.0))


@pytest.fixture
def copied(run, tmp_path) -> run_dir.Run:
    """A copy of the small run, with a temperature."""
    shutil.copytree(run.folder, tmp_path / "copied")
    write_temperature(tmp_path / "copied", 2.0)
    return run_dir.open_run(tmp_path / "copied")


def write_temperature(folder: Path, temperature: float) -> None:
    (folder / run_dir.CALIBRATION).write_text(json.dumps({"temperature": temperature, "step": 0}))


def refuse(*_) -> Network:
    raise AssertionError("expected the stored graph, found a network in JAX")


@pytest.mark.parametrize(
    "overrides",
    [
        ("eval.tta=flip", "model.heads=valence_arousal"),
        pytest.param(("eval.tta=tencrop",), marks=pytest.mark.slow),
    ],
)
def test_the_answers_are_those_of_jax(tmp_path, overrides):
    run = write_run(tmp_path / "run", overrides=overrides)
    write_temperature(run.folder, 2.0)
    network = Network(run)
    made = onnx_runtime.open_classifier(run, lambda: network)
    again = onnx_runtime.open_classifier(run, refuse)
    for count in (0, 1, 5, 40):
        expected = network.answer(FACES[:count])
        for graph in (made, again):
            assert isinstance(graph, Graph)
            found = graph.answer(FACES[:count])
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (again.step, again.digest) == (network.step, network.digest)
    assert again.runtime.startswith("ONNX Runtime ")


def test_a_stored_graph_predicts_without_jax(copied, media):
    expected = Model(copied).predict(media / "anna.png")[0].faces[0].probabilities
    code = f"""
import json, sys
from fer_jax.cli import app
app.main(["predict", {str(copied.folder)!r}, {str(media / "anna.png")!r}, "--faces", "largest",
          "--no_pictures", "--out", {str(copied.folder / "out")!r}])
print(sorted({{"jax", "flax", "matplotlib", "scipy"}} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    content = json.loads((copied.folder / "out" / "predictions.json").read_text())
    assert content["runtime"].startswith("ONNX Runtime ")
    found = content["frames"][0]["faces"][0]["probabilities"]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("_milliseconds", lambda *_: (1.0, 2.0), "JAX 1.00 ms, ONNX Runtime 2.00 ms"),
        ("TOLERANCE", 0.0, "answers differ by"),
        ("MAX_GRAPH_BYTES", 10, "bytes of weights"),
        ("to_onnx", None, "UnsupportedError: the operation sort"),
        ("Graph", None, "UnsupportedError: the operation sort"),
    ],
)
def test_jax_stays_where_it_is_faster_or_differs_and_the_verdict_is_kept(
    copied, monkeypatch, attribute, value, reason
):
    def fail(*_):
        raise UnsupportedError("the operation sort has no translation to ONNX")

    owner = program if attribute == "to_onnx" else onnx_runtime
    monkeypatch.setattr(owner, attribute, fail if value is None else value)
    network = Network(copied)
    assert onnx_runtime.open_classifier(copied, lambda: network) is network
    verdict = onnx_runtime._read(onnx_runtime._path(copied))
    assert verdict.graph == ""
    assert reason in verdict.reason
    monkeypatch.setattr(onnx_runtime, "_judge", refuse)
    assert onnx_runtime.open_classifier(copied, lambda: network) is network


def test_other_weights_or_another_temperature_have_another_graph(copied):
    names = [onnx_runtime._path(copied)]
    write_temperature(copied.folder, 3.0)
    names.append(onnx_runtime._path(copied))
    file = next(path for path in copied.checkpoints.rglob("*") if path.is_file())
    os.utime(file, (1, 1))
    names.append(onnx_runtime._path(copied))
    assert len(set(names)) == 3


def test_a_damaged_graph_is_not_used_and_made_anew(copied):
    network = Network(copied)
    onnx_runtime.open_classifier(copied, lambda: network)
    file = onnx_runtime._path(copied).with_suffix(".onnx")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert onnx_runtime.open_classifier(copied, lambda: network) is network
    assert isinstance(onnx_runtime.open_classifier(copied, lambda: network), Graph)


@pytest.mark.parametrize("reason", ["off", "plugin", "missing", "accelerator", "no cache"])
def test_jax_predicts_where_onnx_runtime_cannot_or_must_not(copied, monkeypatch, tmp_path, reason):
    if reason == "off":
        monkeypatch.setenv(onnx_runtime.VARIABLE, "0")
    elif reason == "plugin":
        part = {"kind": "network", "name": "tiny", "module": "my_parts", "version": ""}
        copied = dataclasses.replace(copied, plugins=[part])
    elif reason == "missing":
        monkeypatch.setattr(onnx_runtime.importlib.util, "find_spec", lambda _: None)
    elif reason == "accelerator":
        monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    else:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "file"))
    network = Network(copied)
    assert onnx_runtime.open_classifier(copied, lambda: network) is network
