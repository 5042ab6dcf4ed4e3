"""A temperature is fitted on validation and divides the logits wherever a run predicts."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.data.records import Records
from fer_jax.errors import UserError
from fer_jax.experiments.calibrate import BOUNDS, fit_temperature
from fer_jax.experiments.evaluate import predict_records
from fer_jax.inference.model import Model
from fer_jax.inference.program import make_program
from fer_jax.report import tables
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import reliability, score, with_temperature
from tests.report.test_tables import CARD
from tests.small_runs import SIZE


def draw(sharpness: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are `sharpness` times those that the labels are drawn from."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (count, 5))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return with_temperature(true, 1 / sharpness).astype(np.float32), labels.astype(np.int32)


@pytest.mark.parametrize("sharpness", [3.0, 0.7])
def test_the_fitted_temperature_calibrates(sharpness):
    probabilities, labels = draw(sharpness)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(sharpness, rel=0.1)
    calibrated = with_temperature(probabilities, temperature)
    before, after = reliability(probabilities, labels), reliability(calibrated, labels)
    assert after.error < 0.02 < 0.06 < before.error
    np.testing.assert_array_equal(calibrated.argmax(axis=1), probabilities.argmax(axis=1))


def test_a_perfect_validation_does_not_drive_it_to_zero():
    probabilities = np.tile(np.float32([0.9, 0.1, 0.0]), (7, 1))
    temperature = fit_temperature(probabilities, np.zeros(7, np.int32))
    assert temperature == pytest.approx(BOUNDS[0], rel=0.01)


def test_the_report_shows_the_error_with_and_without_it():
    probabilities, labels = draw(3.0, 400)
    calibrated = with_temperature(probabilities, 3.0).astype(np.float32)
    ids, names = tuple(map(str, range(400))), tuple("abcde")
    predictions = Predictions(ids, labels, calibrated, ("",) * 400, names)
    result = score(predictions, 3.0)
    assert result.uncalibrated_error == pytest.approx(
        reliability(probabilities, labels).error, abs=1e-4
    )
    (row,) = tables.calibration_rows(result, CARD)
    assert f"{result.uncalibrated_error:.4f}" in row[1]
    assert score(predictions).uncalibrated_error is None


@pytest.fixture(scope="module")
def calibrated(run, tmp_path_factory) -> run_dir.Run:
    """The small run with a temperature of 2."""
    folder = tmp_path_factory.mktemp("calibrated") / "small"
    shutil.copytree(run.folder, folder)
    (folder / run_dir.CALIBRATION).write_text(json.dumps({"temperature": 2.0, "step": 0}))
    return run_dir.open_run(folder)


def test_evaluate_predict_and_export_give_the_same_probabilities(run, model, calibrated):
    faces = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    opened = Model(calibrated)
    expected = with_temperature(model.predict_faces(faces), 2.0)
    assert np.abs(expected - model.predict_faces(faces)).max() > 1e-3
    records = Records(faces, np.zeros(5, np.int32), tuple("abcde"), ("",) * 5, run.labels, "")
    program = jax.jit(make_program(opened.network))
    for found in (
        opened.predict_faces(faces),
        opened.network.explain(faces)[0],
        predict_records(calibrated, records)[1],
        program(opened.network.variables, faces),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_temperature_of_other_weights_is_not_used_and_a_damaged_one_is_reported(calibrated):
    path = calibrated.folder / run_dir.CALIBRATION
    stored = path.read_text()
    try:
        assert run_dir.read_temperature(calibrated, 5) == 1
        path.write_text("{")
        with pytest.raises(UserError, match=r"calibration.json cannot be read .* or delete it"):
            run_dir.read_temperature(calibrated, 0)
    finally:
        path.write_text(stored)
    assert run_dir.read_temperature(calibrated, 0) == 2
