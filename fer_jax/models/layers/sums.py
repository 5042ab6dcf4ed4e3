"""Sums of long arrays, in the form that is fast where they run.

XLA splits a long sum into a tree of windows on CPU, and writes what is summed to memory before:
at a multiple of the cost of reading it once (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from fer_jax.models.layers import cpu_ops as forms

_PARTS = 16  # of an array, that are added in one loop
_SHORT = 1 << 12  # elements whose sum is worth no such loop


def channel_sums(x: jax.Array) -> jax.Array:
    """The sums of each channel: [..., C] to [C], added in float32 or more, of `x`' dtype.

    On CPU the product with ones, which reads the array once, on all cores.
    """
    axes = tuple(range(x.ndim - 1))
    if not forms.for_cpu():
        return x.sum(axes)
    ones = jnp.ones(x.shape[:-1], x.dtype)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    sums: jax.Array = jax.lax.dot_general(
        ones, x, ((axes, axes), ((), ())), preferred_element_type=wide
    )
    return sums.astype(x.dtype)


def sum_of_squares(x: jax.Array) -> jax.Array:
    """The sum of all elements' squares, a scalar.

    On CPU parts of the array are added to each other, in one loop that reads it once. Of
    several devices each may have a part of its own, which that would gather.
    """
    if not forms.for_cpu() or jax.device_count() > 1:
        return jnp.sum(jnp.square(x))
    changed, x, rest = jnp.square, x.reshape(-1), jnp.zeros((), x.dtype)
    while x.size > _SHORT:
        length = x.size // _PARTS
        parts = [x[part * length :][:length] for part in range(_PARTS)]
        if x.size % _PARTS:
            rest += jnp.sum(changed(x[length * _PARTS :]))
        # Squares of parts: those of the whole, read by each, would be an array of their own.
        x, changed = functools.reduce(jnp.add, map(changed, parts)), jnp.asarray
    return rest + jnp.sum(changed(x))
