"""Grad-CAM: where in a picture a network found what speaks for a class.

Selvaraju et al. 2017. The activations are those of the last layer whose output is still a
map, read and perturbed while the network runs: its parameters and its code stay as they
are, so that any run can be explained. Drawing is in `overlay`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Path = tuple[str, ...]

Explain = Callable[[Any, jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]
"""(variables, network input [B, S, S, 3], classes int32[B] or None for the likeliest) to logits
[B, C] and maps float32[B, S, S] in [0, 1]."""


def make_explain(model: nn.Module, variables: Any, size: int) -> Explain:
    """Grad-CAM of a network as a pure function, to be jitted by the caller.

    Args:
      model: a network of the registry.
      variables: its parameters and statistics; their shapes are used.
      size: side of its input.
    """
    path, shape = find_last_map(model, variables, size)

    def explain(
        variables: Any, inputs: jax.Array, classes: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        def score(change: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            logits, features = _run(model, variables, inputs, path, change)
            chosen = logits.argmax(axis=-1) if classes is None else classes
            picked = jnp.take_along_axis(logits, chosen[:, None], axis=-1)
            # One picture's logit does not depend on another's map: a sum keeps them apart.
            return picked.sum(), (logits, features)

        change = jnp.zeros((inputs.shape[0], *shape), jnp.float32)
        slopes, (logits, features) = jax.grad(score, has_aux=True)(change)
        return logits, _heat(features, slopes, inputs.shape[1])

    return explain


def find_last_map(model: nn.Module, variables: Any, size: int) -> tuple[Path, tuple[int, int, int]]:
    """The last module whose output is a map, and the height, width and channels of it.

    For VGG16 and InceptionResNetV2 that is the backbone, whose maps are then pooled; for the
    others the last convolution, or the normalisation behind it.
    """
    found: list[tuple[Path, tuple[int, int, int]]] = []

    def note(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = next_fun(*args, **kwargs)
        is_layer = context.method_name == "__call__" and not isinstance(context.module, nn.Dropout)
        if is_layer and getattr(output, "ndim", 0) == 4:
            found.append((context.module.path, tuple(output.shape[1:])))
        return output

    def forward(variables: Any, inputs: jax.Array) -> Any:
        with nn.intercept_methods(note):
            return model.apply(variables, inputs, train=False)

    jax.eval_shape(forward, variables, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    return found[-1]


def _run(
    model: nn.Module, variables: Any, inputs: jax.Array, path: Path, change: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Logits [B, C], and the output [B, H, W, K] of the module at `path` plus `change`."""
    kept = {}

    def perturb(
        next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        output = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path == path:
            output = kept["map"] = output + change.astype(output.dtype)
        return output

    with nn.intercept_methods(perturb):
        logits = jnp.asarray(model.apply(variables, inputs, train=False))
    return logits, kept["map"].astype(jnp.float32)


def _heat(features: jax.Array, slopes: jax.Array, size: int) -> jax.Array:
    """Grad-CAM's map float32[B, size, size], 1 where it is highest; 0 if nothing speaks for it.

    Args:
      features: [B, H, W, K]. Where a ReLU follows they are taken as behind it.
      slopes: of the class's logit by the features.
      size: of the result.
    """
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    heat = nn.relu((weights * nn.relu(features)).sum(axis=-1))
    heat = jax.image.resize(heat, (heat.shape[0], size, size), "linear")
    highest = heat.max(axis=(1, 2), keepdims=True)
    return jnp.where(highest > 0, heat / jnp.where(highest > 0, highest, 1.0), 0.0)
