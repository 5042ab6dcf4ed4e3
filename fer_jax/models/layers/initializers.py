"""Glorot's uniform initializer, in JAX and in NumPy.

It is Keras' default, which the published networks were trained with.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def fer_jax_glorot_uniform(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """`nn.initializers.glorot_uniform()` under a name by which `initialize` recognizes it."""
    return nn.initializers.glorot_uniform()(key, shape, dtype)


glorot_uniform = jax.jit(fer_jax_glorot_uniform, static_argnames=("shape", "dtype"))


def numpy_glorot_uniform(
    path: str, shape: Sequence[int], dtype: DTypeLike, seed: int
) -> np.ndarray:
    """Draws an array from the distribution of `glorot_uniform`; compiles nothing.

    Args:
      path: of the array in the network's variables; the values depend on it and the seed alone.
      shape: [..., inputs, outputs].
      dtype: of the array.
      seed: any integer.
    """
    digest = hashlib.sha256(path.encode()).digest()
    entropy = [seed & (2**64 - 1), int.from_bytes(digest[:16], "big")]
    drawn = np.random.default_rng(entropy).random(shape, np.float32)
    fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1])
    limit = np.float32(math.sqrt(6 / fans))
    drawn *= 2 * limit
    drawn -= limit
    return drawn.astype(dtype, copy=False)
