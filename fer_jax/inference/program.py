"""The network as one function, from cropped faces to probabilities, and as an ONNX graph.

Normalization and views are part of it. Exported files and ONNX Runtime's predictions are made of
it. Computes in float32 regardless of the run's dtype, because every runtime supports it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.faces.framing import ellipse_mask
from fer_jax.heads import AFFECT, DIMENSIONS, UNITS
from fer_jax.inference import onnx_graph
from fer_jax.inference.network import Network
from fer_jax.models.layers import cpu_ops
from fer_jax.run_dir import Run
from fer_jax.training import tta

INPUT = "faces"
"""Name of the input: uint8[B, S, S, 3] RGB, cropped to the face and resized to the run's size."""

OUTPUT = "probabilities"
"""Name of the first output: float32[B, C], in the order of the run's labels."""

Program = Callable[[Any, jax.Array], jax.Array | tuple[jax.Array, ...]]


def further_outputs(run: Run) -> dict[str, tuple[str, ...]]:
    """Names of the columns of each further output, by its name; those of `Run.heads`."""
    names = {UNITS: run.heads.units, AFFECT: DIMENSIONS if run.heads.affect else ()}
    return {output: columns for output, columns in names.items() if columns}


def make_program(network: Network) -> Program:
    """Returns a function from (variables, uint8[B, S, S, 3]) to the outputs.

    These are the probabilities, float32[B, C]; with further heads, a tuple of them and a float32
    array for each of `further_outputs`.
    """
    model = network.model.clone(dtype=jnp.float32)
    preprocessing, views = network.run.preprocessing, network.run.settings.eval.tta
    heads, ends = network.run.heads, [len(network.run.labels)]
    for columns in further_outputs(network.run).values():
        ends.append(ends[-1] + len(columns))

    def program(variables: Any, faces: jax.Array) -> jax.Array | tuple[jax.Array, ...]:
        pixels = faces.astype(jnp.float32)
        if preprocessing.mask == "ellipse":  # no change to faces masked already
            inside = ellipse_mask(preprocessing.size, None).astype(np.float32)
            pixels = pixels * inside[None, :, :, None]

        def logits_of(view: jax.Array) -> jax.Array:
            inputs = preprocessing.normalized(view)
            return jnp.asarray(model.apply(variables, inputs, train=False))

        with cpu_ops.disabled():
            if not heads.names:
                return tta.mean_probabilities(logits_of, pixels, views, network.temperature)
            answers = tta.mean_answers(logits_of, pixels, views, heads, network.temperature)
        return tuple(tta.columns(answers, *pair) for pair in itertools.pairwise((0, *ends)))

    return program


def symbolic_faces(network: Network) -> jax.ShapeDtypeStruct:
    """Returns the input's shape and dtype, with a symbolic batch size."""
    size = network.run.preprocessing.size
    (batch,) = jax.export.symbolic_shape("batch")
    return jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)


def to_onnx(network: Network) -> Any:
    """Returns the program as an ONNX model, with any batch size.

    Raises:
      onnx_graph.UnsupportedError: an operation has no translation.
    """
    return onnx_graph.translate(
        make_program(network),
        jax.device_get(network.variables),
        symbolic_faces(network),
        INPUT,
        [OUTPUT, *further_outputs(network.run)],
    )
