"""Facial-expression classifiers in JAX: train, evaluate and serve them.

    fer_jax.load().predict("photo.jpg")            # the shipped model
    fer_jax.load("runs/demo").predict("photo.jpg")

`cli` is the command line. Below it, `experiments`, `export` and `serve` use `inference`,
`report` and `training`, which use `data`, `faces`, `models`, `monitor`, `runtime` and `weights`.
Importing this package imports neither JAX nor TensorFlow; `load` imports JAX.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fer_jax.registry import register

if TYPE_CHECKING:
    import pandas as pd

    from fer_jax.api import Model, Prediction

# OpenCV reads its limit once, when it is loaded, and every command imports this package first.
# `faces.decode` checks headers before; this holds where a header and its image disagree.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "250000000")

__version__ = "0.1.0"
__all__ = ["__version__", "load", "register", "to_frame"]


def load(folder: str | os.PathLike[str] | None = None, plugins: Sequence[str] = ()) -> Model:
    """Opens a trained run, such as "runs/demo", or the shipped model; see `fer_jax.api`.

    Raises:
      UserError: no run, one of a newer fer_jax, no whole checkpoint, or a plugin that is missing.
    """
    from fer_jax import api

    return api.load(folder, plugins)


def to_frame(predictions: Iterable[Prediction]) -> pd.DataFrame:
    """Makes a pandas table of predictions, with a row per face; see `fer_jax.inference.results`.

    Raises:
      UserError: pandas is not installed.
    """
    from fer_jax import api

    return api.to_frame(predictions)
