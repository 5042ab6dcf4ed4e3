"""Calibrates a run: fits a temperature on validation and stores it in the run directory.

Guo et al. 2017, "On Calibration of Modern Neural Networks": one number divides the logits, so that
confidence matches accuracy. `training.tta` applies it, wherever a run predicts.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import scipy.optimize

from fer_jax import files
from fer_jax.data.records import decode_all, open_split
from fer_jax.experiments.evaluate import check_labels, open_data, predict_records
from fer_jax.report.scores import reliability, with_temperature
from fer_jax.run_dir import CALIBRATION, Run
from fer_jax.runtime import distributed

BOUNDS = (0.2, 10.0)
"""Range of the temperature. A few validation images that are all correct would drive it to 0; a
network that fits votes, which are less certain than their majority, needs about 0.5."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The content of calibration.json.

    Attributes:
      temperature: divides the logits.
      step: of the weights that it was fitted for.
      images: number of validation images.
      error_before: their expected calibration error at temperature 1.
      error: at the fitted temperature, which these images chose: the error on test counts.
    """

    temperature: float
    step: int
    images: int
    error_before: float
    error: float


def calibrate(run: Run) -> Calibration:
    """Fits the temperature of the best checkpoint and writes calibration.json.

    All processes of a job must call it together.

    Raises:
      UserError: no checkpoint, or data that cannot be used.
    """
    data = open_data(run)
    records = decode_all(open_split(data, "validation", run.preprocessing))
    check_labels(run, records.label_names)
    trained, probabilities = predict_records(run, records, is_calibrated=False)
    temperature = round(fit_temperature(probabilities, records.labels), 4)
    calibrated = with_temperature(probabilities, temperature)
    found = Calibration(
        temperature=temperature,
        step=trained.step,
        images=len(records),
        error_before=reliability(probabilities, records.labels).error,
        error=reliability(calibrated, records.labels).error,
    )
    content, path = json.dumps(dataclasses.asdict(found), indent=2) + "\n", run.folder / CALIBRATION
    distributed.lead_first(lambda: files.write_text(path, content), lambda: path)
    return found


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature with the smallest mean negative log-likelihood.

    Args:
      probabilities: float[N, C] at temperature 1.
      labels: int[N].
    """
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        found = with_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(found[rows, labels], np.finfo(np.float64).tiny)).mean())

    found = scipy.optimize.minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded")
    return float(np.exp(found.x))
