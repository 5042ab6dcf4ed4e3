"""Sums of large arrays that read them once on CPU.

XLA splits a long sum on CPU into a tree of windows and first writes the summands to memory, which
costs several times one read (measured in results/speed.md).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from fer_jax.models.layers import cpu_ops

_PARTS = 16  # slices of an array that one loop adds
_SHORT = 1 << 12  # elements below which XLA's own sum is as fast


def channel_sums(x: jax.Array) -> jax.Array:
    """Sums over all axes but the last: [..., C] to [C], in x's dtype.

    Accumulates in at least float32. On CPU it is a matrix product with ones, which reads the
    array once, on all cores.
    """
    axes = tuple(range(x.ndim - 1))
    if not cpu_ops.enabled():
        return x.sum(axes)
    ones = jnp.ones(x.shape[:-1], x.dtype)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    sums: jax.Array = jax.lax.dot_general(
        ones, x, ((axes, axes), ((), ())), preferred_element_type=wide
    )
    return sums.astype(x.dtype)


def sum_of_squares(x: jax.Array) -> jax.Array:
    """Returns the sum of the squares of all elements, a scalar.

    On one CPU device, slices of the array are added to each other in one loop that reads it once.
    With several devices the array may be sharded, and slicing it would gather it.
    """
    if not cpu_ops.enabled() or jax.device_count() > 1:
        return jnp.sum(jnp.square(x))
    transform, x, rest = jnp.square, x.reshape(-1), jnp.zeros((), x.dtype)
    while x.size > _SHORT:
        length = x.size // _PARTS
        parts = [x[part * length :][:length] for part in range(_PARTS)]
        if x.size % _PARTS:
            rest += jnp.sum(transform(x[length * _PARTS :]))
        # Squares each slice. XLA would store the square of the whole array, which all slices read.
        x, transform = functools.reduce(jnp.add, map(transform, parts)), jnp.asarray
    return rest + jnp.sum(transform(x))
