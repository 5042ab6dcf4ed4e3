"""Grad-CAM: which regions of an image support a class (Selvaraju et al., 2017).

Uses the last layer whose output is a feature map. Its output is intercepted and perturbed during
the forward pass, so the network needs no extra code or parameters. Drawing is in `overlay`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Path = tuple[str, ...]

Explain = Callable[[Any, jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]
"""(variables, normalized images [B, S, S, 3], classes int32[B] or None for the predicted ones) ->
logits [B, C] and maps float32[B, S, S] in [0, 1]."""


def make_explain(model: nn.Module, variables: Any, size: int) -> Explain:
    """Returns Grad-CAM of a network as a pure function, for the caller to jit.

    Args:
      model: the network.
      variables: its variables; only their shapes are used.
      size: side length of its input.
    """
    path, shape = find_last_map(model, variables, size)

    def explain(
        variables: Any, inputs: jax.Array, classes: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        def score(change: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            logits, features = _run(model, variables, inputs, path, change)
            chosen = logits.argmax(axis=-1) if classes is None else classes
            picked = jnp.take_along_axis(logits, chosen[:, None], axis=-1)
            # Images are independent, so the gradient of the sum holds each image's gradient.
            return picked.sum(), (logits, features)

        change = jnp.zeros((inputs.shape[0], *shape), jnp.float32)
        gradients, (logits, features) = jax.grad(score, has_aux=True)(change)
        return logits, _heat(features, gradients, inputs.shape[1])

    return explain


def find_last_map(model: nn.Module, variables: Any, size: int) -> tuple[Path, tuple[int, int, int]]:
    """Returns the path of the last module whose output is a feature map, and that map's shape.

    For networks with a backbone that is the backbone; for the others the last convolution, or
    the normalization after it.
    """
    maps: list[tuple[Path, tuple[int, int, int]]] = []

    def record(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = next_fun(*args, **kwargs)
        is_layer = context.method_name == "__call__" and not isinstance(context.module, nn.Dropout)
        if is_layer and getattr(output, "ndim", 0) == 4:
            maps.append((context.module.path, tuple(output.shape[1:])))
        return output

    def forward(variables: Any, inputs: jax.Array) -> Any:
        with nn.intercept_methods(record):
            return model.apply(variables, inputs, train=False)

    jax.eval_shape(forward, variables, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    return maps[-1]


def _run(
    model: nn.Module, variables: Any, inputs: jax.Array, path: Path, change: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns logits [B, C] and the output [B, H, W, K] of the module at `path` plus `change`."""
    perturbed = {}

    def perturb(
        next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        output = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path == path:
            output = perturbed["map"] = output + change.astype(output.dtype)
        return output

    with nn.intercept_methods(perturb):
        logits = jnp.asarray(model.apply(variables, inputs, train=False))
    return logits, perturbed["map"].astype(jnp.float32)


def _heat(features: jax.Array, gradients: jax.Array, size: int) -> jax.Array:
    """Returns the maps float32[B, size, size], scaled to a maximum of 1; all 0 if none is positive.

    Args:
      features: [B, H, W, K]; a ReLU is applied, as the networks apply one after this layer.
      gradients: gradients of the class logits with respect to the features.
      size: side length of the maps.
    """
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    heat = nn.relu((weights * nn.relu(features)).sum(axis=-1))
    heat = jax.image.resize(heat, (heat.shape[0], size, size), "linear")
    maximum = heat.max(axis=(1, 2), keepdims=True)
    return jnp.where(maximum > 0, heat / jnp.where(maximum > 0, maximum, 1.0), 0.0)
