"""Initial values of kernels, drawn without compiling a program for every shape.

Flax compiles one for each shape, which for a network of 244 convolutions takes longer than
anything else before the first step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

_REFERENCE = nn.initializers.glorot_uniform()
_LEAST, _MOST = 2**12, 2**22  # smaller draws share a program, larger shapes are few


def glorot_uniform(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Flax's `glorot_uniform`, bit for bit.

    Args:
      key: a random key.
      shape: of a kernel; the last two axes are the inputs and the outputs.
      dtype: of the result, a float.
    """
    if isinstance(key, jax.core.Tracer) or dtype != jnp.float32:
        return _REFERENCE(key, shape, dtype)
    size = math.prod(shape)
    # JAX draws the i-th number from the key and i alone, so a longer draw begins with the same.
    longer = max(_LEAST, 1 << (size - 1).bit_length()) if size <= _MOST else size
    drawn = np.asarray(_uniform(key, longer))[:size].reshape(shape)
    fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1])
    # jnp.asarray would compile a program for the shape.
    return jax.device_put(drawn * np.sqrt(3 * np.float32(2 / fans)))


@functools.partial(jax.jit, static_argnums=1)
def _uniform(key: jax.Array, size: int) -> jax.Array:
    """float32[size] in [-1, 1)."""
    return jax.random.uniform(key, (size,), jnp.float32, -1)
