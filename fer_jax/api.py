"""The Python interface to a trained run.

    import fer_jax

    model = fer_jax.load("runs/demo")
    for prediction in model.predict(["anna.jpg", "group.jpg"], faces="all"):
        for face in prediction.faces:
            print(prediction.source, face.box, face.label, face.probabilities)

Face detection, cropping and normalization come from the run directory. For folders, videos and
cameras use `fer-jax predict`.
"""

from __future__ import annotations

import os
from pathlib import Path

from fer_jax import run_dir
from fer_jax.inference.model import Model
from fer_jax.inference.results import Face, Prediction

__all__ = ["Face", "Model", "Prediction", "load"]


def load(folder: str | os.PathLike[str]) -> Model:
    """Opens a run directory, such as "runs/demo", with its best weights.

    Raises:
      UserError: no run, a run of a newer fer_jax, or no intact checkpoint.
    """
    return Model(run_dir.open_run(Path(folder)))
