"""Hidden units that have died: their ReLU is zero for every image, so they learn nothing more."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def share_of_dead_units(
    model: nn.Module, variables: dict[str, Any], images: jax.Array
) -> float | None:
    """Returns the share of units in the hidden dense layers that are zero for all images.

    Args:
      model: the network.
      variables: its params and batch_stats.
      images: float[N, S, S, 3], normalized.

    Returns:
      In [0, 1]; None for a network without hidden dense layers (see `models.layers.head`).
    """
    names = [f"head{layer}" for layer in range(1, len(getattr(model, "head_widths", ())) + 1)]
    if not names:
        return None

    @jax.jit
    def largest(variables: dict[str, Any], images: jax.Array) -> list[jax.Array]:
        _, captured = model.apply(
            variables, images, train=False, mutable=["intermediates"],
            capture_intermediates=lambda module, _: module.name in names,
        )  # fmt: skip
        layers = captured["intermediates"]
        return [jnp.max(layers[name]["__call__"][0], axis=0) for name in names]

    return float(np.mean(np.concatenate(largest(variables, images)) <= 0))
