"""LiteRT files: the run's probabilities, also by the script without fer_jax.

Of three networks; the other four passed on 2026-11-29, but their conversion takes minutes.
"""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.data.preprocess import InputFormat, Preprocessing
from fer_jax.export import export_run, run_exported
from fer_jax.inference.network import Network
from tests.small_runs import write_run

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ("name", "size", "overrides"),
    [
        ("light_vgg", 32, ("eval.tta=flip",)),
        ("custom_cnn", 24, ("model.batch_norm=true",)),
        ("resnet18", 40, ()),
    ],
)
def test_a_litert_file_matches_the_run(tmp_path, name, size, overrides):
    preprocessing = Preprocessing(size, "weights", InputFormat("bgr", 1.0, (103.9, 116.8, 123.7)))
    run = write_run(
        tmp_path / "run", preprocessing=preprocessing, overrides=(f"model.name={name}", *overrides)
    )
    faces = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    out = tmp_path / "run.tflite"
    samples = export_run.Samples(faces, None, None, "noise")
    assert export_run.export(run, "litert", "float32", out, samples).difference < 1e-5
    classify, metadata = run_exported.load(str(out))
    assert metadata["labels"] == list(run.labels)
    np.testing.assert_allclose(classify(faces), Network(run).classify(faces), atol=1e-5)
