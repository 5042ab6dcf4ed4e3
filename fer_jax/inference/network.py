"""A run's trained network as a classifier of cropped faces, on one device.

Batches have a few fixed sizes and are padded to them, so that any number of faces compiles
the same few programs. It detects no faces and reads no files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.inference import fork, gradcam
from fer_jax.inference.batches import BATCH_SIZES, EXPLAIN_BATCH_SIZES, padded
from fer_jax.run_dir import Run
from fer_jax.runtime import sharding, xla_options
from fer_jax.training import tta
from fer_jax.training.restore import Trained, load_trained

Program = Callable[[Any, np.ndarray], Any]


class Network:
    """A run's best weights on one device.

    Args:
      run: a trained run.
      trained: the run's weights, if they are loaded already.

    Raises:
      UserError: no checkpoint, a damaged one, one that does not match the configuration, or a
        process forked from one that used a network. The methods raise the latter, too.
    """

    def __init__(self, run: Run, trained: Trained | None = None) -> None:
        fork.check()
        trained = trained or load_trained(run, sharding.one_device_mesh())
        self.run, self.model = run, trained.model
        self.step = trained.step
        self.variables = trained.variables
        self.temperature = trained.temperature

    @property
    def runtime(self) -> str:
        """What computes the answers."""
        return f"JAX {jax.__version__}"

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the weights, as stored with them."""
        if self.run.packed:
            return self.run.packed
        from fer_jax.training.checkpoint import state_digest  # with Orbax, half a second

        return state_digest(self.variables)

    def classify(self, faces: np.ndarray) -> np.ndarray:
        """Returns probabilities float32[N, C] of faces uint8[N, S, S, 3] at the run's size."""
        probabilities, _ = self.run.heads.split(self.answer(faces))
        return np.asarray(probabilities)

    def answer(self, faces: np.ndarray) -> np.ndarray:
        """Returns the answers of all heads, float32[N, C + E], see `tta.mean_answers`.

        Without further heads, these are the probabilities of the classes.
        """
        fork.check()
        results = [
            np.asarray(self._classify(self.variables, batch))[:count]
            for batch, count in padded(faces, BATCH_SIZES)
        ]
        return np.concatenate(results) if results else self._empty()

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """Returns the inputs of the classifying layer, float32[N, D], of faces uint8[N, S, S, 3].

        Without test-time augmentation: of each face as it is.
        """
        fork.check()
        results = [
            np.asarray(self._embed(self.variables, batch))[:count]
            for batch, count in padded(faces, BATCH_SIZES)
        ]
        width = self.variables["params"]["head"]["kernel"].shape[0]
        return np.concatenate([np.zeros((0, width), np.float32), *results])

    def explain(self, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classifies faces and computes the Grad-CAM map of each predicted class.

        Args:
          faces: uint8[N, S, S, 3] at the run's size.

        Returns:
          Answers float32[N, C + E] as `answer` returns them, and maps float32[N, S, S] in [0, 1].
        """
        fork.check()
        answers, maps = [self._empty()], [np.zeros((0, *faces.shape[1:3]), np.float32)]
        for batch, count in padded(faces, EXPLAIN_BATCH_SIZES):
            batch_answers, heat = self._explain(self.variables, batch)
            answers.append(np.asarray(batch_answers)[:count])
            maps.append(np.asarray(heat)[:count])
        return np.concatenate(answers), np.concatenate(maps)

    @functools.cached_property
    def _classify(self) -> Program:
        return jax.jit(self._answers, compiler_options=xla_options.for_model(self.model))

    @functools.cached_property
    def _embed(self) -> Program:
        return jax.jit(self._features, compiler_options=xla_options.for_model(self.model))

    @functools.cached_property
    def _explain(self) -> Program:
        normalized = self.run.preprocessing.normalized
        explain = gradcam.make_explain(self.model, self.variables, self.run.preprocessing.size)

        def program(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            answers = self._answers(variables, images)
            probabilities, _ = self.run.heads.split(answers)
            _, heat = explain(variables, normalized(images), probabilities.argmax(axis=-1))
            return answers, heat

        return jax.jit(program)

    def _answers(self, variables: Any, images: jax.Array) -> jax.Array:
        """Returns what evaluation reports: the mean over the run's views, float32[B, C + E]."""
        normalized, model = self.run.preprocessing.normalized, self.model

        def logits_of(images: jax.Array) -> jax.Array:
            return jnp.asarray(model.apply(variables, normalized(images), train=False))

        views, heads = self.run.settings.eval.tta, self.run.heads
        if heads.names:
            return tta.mean_answers(logits_of, images, views, heads, self.temperature)
        return tta.mean_probabilities(logits_of, images, views, self.temperature)

    def _features(self, variables: Any, images: jax.Array) -> jax.Array:
        """Returns the input of the layer `head`, which every network ends with: float32[B, D]."""
        found: list[jax.Array] = []

        def record(
            next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            if context.module.path == ("head",):
                found.append(args[0])
            return next_fun(*args, **kwargs)

        with nn.intercept_methods(record):
            self.model.apply(variables, self.run.preprocessing.normalized(images), train=False)
        return found[0].astype(jnp.float32)

    def _empty(self) -> np.ndarray:
        return np.zeros((0, self.run.heads.outputs), np.float32)
