"""How the repeated blocks of a network are traced, compiled and differentiated."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fer_jax.models.layers import cpu_ops


def prepared(block: Any, remat: bool, shares: bool) -> Any:
    """The module class `block`, called with (x, train), as a network's fields ask for it.

    Args:
      block: a class of modules.
      remat: compute it again in the backward pass instead of keeping what is in it.
      shares: trace those of one form as one function.
    """
    if remat:
        block = nn.remat(block, static_argnums=(2,))
    return nn.jit(block, static_argnums=(2,)) if shares else block


def relu_of_sum(block: nn.Module, total: jax.Array) -> jax.Array:
    """The ReLU at the end of a residual block.

    XLA for CPU joins sums and ReLUs of a whole row of blocks, and computes them again from all
    their branches wherever one is read: a fifth of InceptionResNetV2's step. It cannot see
    through a conditional.

    Args:
      block: whose end it is; its layers have been called.
      total: float[B, H, W, C].
    """
    if not cpu_ops.enabled():
        return nn.relu(total)
    parameters = jax.tree.leaves(block.variables["params"])
    # Nothing that a compiler could know; small, so that every device has it.
    number = min(parameters, key=lambda array: array.size).reshape(-1)[0]
    return _opaque_relu(total, number < 1)


@jax.custom_vjp
def _opaque_relu(x: jax.Array, either: jax.Array) -> jax.Array:
    return jax.lax.cond(either, nn.relu, lambda x: jnp.maximum(x, 0), x)


def _opaque_relu_forward(x: jax.Array, either: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = _opaque_relu(x, either)
    return y, y


def _opaque_relu_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    return jnp.where(y > 0, gradient, 0), None


_opaque_relu.defvjp(_opaque_relu_forward, _opaque_relu_backward)
