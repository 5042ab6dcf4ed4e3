"""A run's trained network, ready to be asked about faces.

Batches have a few fixed sizes, so that a thousand pictures compile no more programs than
three; what is missing in the last one is padded. One device is used: the faces of a
person's pictures are few. It finds no faces and reads no pictures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.inference import gradcam
from fer_jax.run_dir import Run
from fer_jax.runtime import sharding
from fer_jax.runtime import xla_options as compiler
from fer_jax.training.restore import Trained, load_trained

BATCHES = (1, 8, 32)
"""Batch sizes of classifying, ascending."""

EXPLAINED = (1, 8)
"""Those of explaining, which keeps the activations of its layers."""

Program = Callable[[Any, np.ndarray], Any]


class Network:
    """A run's best weights on one device.

    Args:
      run: a trained run.
      trained: its network where that has been read already.

    Raises:
      UserError: there is no checkpoint, it is damaged, or it does not fit the configuration.
    """

    def __init__(self, run: Run, trained: Trained | None = None) -> None:
        trained = trained or load_trained(run, sharding.one_device_mesh())
        self.run, self.model = run, trained.model
        self.step = trained.best.step
        self.variables = trained.best.state.inference_variables

    def classify(self, faces: np.ndarray) -> np.ndarray:
        """Probabilities float32[N, C] of faces uint8[N, S, S, 3] at the run's size."""
        results = [
            np.asarray(self._classify(self.variables, batch))[:count]
            for batch, count in _batches(faces, BATCHES)
        ]
        return np.concatenate(results) if results else self._nothing()

    def explain(self, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32[N, C], and Grad-CAM maps float32[N, S, S] of the likeliest class.

        Args:
          faces: uint8[N, S, S, 3] at the run's size.
        """
        probabilities, maps = [self._nothing()], [np.zeros((0, *faces.shape[1:3]), np.float32)]
        for batch, count in _batches(faces, EXPLAINED):
            said, heat = self._explain(self.variables, batch)
            probabilities.append(np.asarray(said)[:count])
            maps.append(np.asarray(heat)[:count])
        return np.concatenate(probabilities), np.concatenate(maps)

    @functools.cached_property
    def _classify(self) -> Program:
        normalized, model = self.run.preprocessing.normalized, self.model

        def program(variables: Any, images: jax.Array) -> jax.Array:
            logits = jnp.asarray(model.apply(variables, normalized(images), train=False))
            return jax.nn.softmax(logits)

        return jax.jit(program, compiler_options=compiler.options(model))

    @functools.cached_property
    def _explain(self) -> Program:
        normalized = self.run.preprocessing.normalized
        explain = gradcam.make_explain(self.model, self.variables, self.run.preprocessing.size)

        def program(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, heat = explain(variables, normalized(images), None)
            return jax.nn.softmax(logits), heat

        return jax.jit(program)

    def _nothing(self) -> np.ndarray:
        return np.zeros((0, len(self.run.labels)), np.float32)


def _batches(faces: np.ndarray, sizes: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of one of `sizes` rows each, and how many of their rows are faces."""
    first = 0
    while first < len(faces):
        left = len(faces) - first
        size = next((size for size in sizes if size >= left), sizes[-1])
        rows = faces[first : first + size]
        padding = np.zeros((size - len(rows), *faces.shape[1:]), faces.dtype)
        yield np.concatenate([rows, padding]), len(rows)
        first += size
