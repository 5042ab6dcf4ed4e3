"""Facial-expression classifiers in JAX: train, evaluate and serve them.

Verbs (one file each: main, train, evaluate, predict, ...) use the nouns in the rooms below;
nouns never use verbs. Importing this package starts no device, opens no port
and does not import TensorFlow; JAX itself is imported with the first `load`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fer_jax.api import Model

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

IMPORTED = time.time()
"""When this package was imported, in seconds since the epoch: before any other of its sources."""


def load(folder: str | os.PathLike[str]) -> Model:
    """Opens a trained run, such as "runs/demo", for prediction; see `fer_jax.api`.

    Raises:
      UserError: no run, one of a newer fer_jax, or no checkpoint that is whole.
    """
    from fer_jax import api

    return api.load(folder)
