"""The function that is exported: from face crops to probabilities, normalisation included.

Computed in float32 whatever the run's type, because that is what every runtime has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.data.preprocess import ellipse_mask
from fer_jax.inference.network import Network
from fer_jax.models.layers import cpu_ops as forms

INPUT = "faces"
"""Name of the input: uint8[B, S, S, 3] RGB, cut to the face and resized to the run's size."""

OUTPUT = "probabilities"
"""Name of the output: float32[B, C], in the order of the run's labels."""

Program = Callable[[Any, jax.Array], jax.Array]


def make_program(network: Network) -> Program:
    """The function (variables, uint8[B, S, S, 3]) to float32[B, C]."""
    model = network.model.clone(dtype=jnp.float32)
    preprocessing = network.run.preprocessing

    def program(variables: Any, faces: jax.Array) -> jax.Array:
        pixels = faces.astype(jnp.float32)
        if preprocessing.mask == "ellipse":  # masked faces stay as they are
            inside = ellipse_mask(preprocessing.size, None).astype(np.float32)
            pixels = pixels * inside[None, :, :, None]
        with forms.plain():
            inputs = preprocessing.normalized(pixels)
            logits = jnp.asarray(model.apply(variables, inputs, train=False))
        return jax.nn.softmax(logits)

    return program


def symbolic_faces(network: Network) -> jax.ShapeDtypeStruct:
    """The form of the input, with a batch size that is left open."""
    size = network.run.preprocessing.size
    (batch,) = jax.export.symbolic_shape("batch")
    return jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
