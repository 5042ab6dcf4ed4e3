"""How a network's repeated blocks are traced, compiled and differentiated."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fer_jax.models.layers import cpu_ops


def wrap_block(block: Any, remat: bool, shares: bool) -> Any:
    """Wraps a module class that is called with (x, train).

    Args:
      block: the module class.
      remat: recompute activations in the backward pass (`nn.remat`).
      shares: trace equal blocks once (`nn.jit`).
    """
    if remat:
        block = nn.remat(block, static_argnums=(2,))
    return nn.jit(block, static_argnums=(2,)) if shares else block


def relu_of_sum(block: nn.Module, total: jax.Array) -> jax.Array:
    """Applies the ReLU at the end of a residual block.

    XLA on CPU fuses the sums and ReLUs of consecutive blocks, and recomputes them from all
    branches wherever one is read: a fifth of InceptionResNetV2's step. It does not fuse across a
    conditional, so on CPU the ReLU is one, whose two branches are equal.

    Args:
      block: the block, after its layers have been called.
      total: float[B, H, W, C], the sum of its branches.
    """
    if not cpu_ops.enabled():
        return nn.relu(total)
    parameters = jax.tree.leaves(block.variables["params"])
    # The condition depends on a parameter, so that XLA cannot simplify it away. The smallest
    # array, because it is replicated on every device.
    number = min(parameters, key=lambda array: array.size).reshape(-1)[0]
    return _opaque_relu(total, number < 1)


@jax.custom_vjp
def _opaque_relu(x: jax.Array, condition: jax.Array) -> jax.Array:
    return jax.lax.cond(condition, nn.relu, lambda x: jnp.maximum(x, 0), x)


def _opaque_relu_forward(x: jax.Array, condition: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = _opaque_relu(x, condition)
    return y, y


def _opaque_relu_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    return jnp.where(y > 0, gradient, 0), None


_opaque_relu.defvjp(_opaque_relu_forward, _opaque_relu_backward)
