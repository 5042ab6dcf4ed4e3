"""Pooling, each in the form whose gradient is fast where the network runs.

XLA lowers the gradient of a windowed maximum to select-and-scatter, which on CPU costs more
than the convolutions around it. Two by two, the place of the maximum is remembered instead, and
its gradient is a selection; three by three, the maximum is taken over shifted slices, whose
gradient is elementwise. Values are equal. On ties the first pixel of a window has the whole
gradient, as in the windowed form; three by three the tied pixels share it.

No maximum is a reduction where a gradient is taken: that gradient goes to the elements that
equal the maximum, and a compiler that computes the elements anew for the comparison may round
them otherwise. XLA did for BatchNorm before a maximum on CPU, and lost a tenth of the gradient.
"""

from __future__ import annotations

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from fer_jax.models.layers import cpu_ops

GLOBAL_POOLINGS = ("average", "max")

_FULL_VECTOR = 16  # channels from which XLA's inner loop over them takes whole registers


def max_pool_2x2(images: jax.Array) -> jax.Array:
    """2 x 2 max pooling with stride 2, valid: [B, H, W, C] to [B, H // 2, W // 2, C]."""
    if cpu_ops.enabled():
        return _max_of_four(images)
    return nn.max_pool(images, window_shape=(2, 2), strides=(2, 2))


@jax.custom_vjp
def _max_of_four(images: jax.Array) -> jax.Array:
    return _highest_of_four(images)[0]


def _highest_of_four(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maximum of each window, and which of its four pixels is the first that has it."""
    _, height, width, _ = images.shape
    highest, *others = (
        images[:, row : height // 2 * 2 : 2, column : width // 2 * 2 : 2]
        for row, column in itertools.product(range(2), range(2))
    )
    first = jnp.zeros(highest.shape, jnp.uint8)
    for place, pixels in enumerate(others, 1):
        first = jnp.where(pixels > highest, jnp.uint8(place), first)
        highest = jnp.maximum(highest, pixels)
    return highest, first


def _max_of_four_forward(images: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    highest, first = _highest_of_four(images)
    return highest, (first, jnp.zeros((0, *images.shape[1:3])))  # the shape is what counts


def _max_of_four_backward(
    kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array]:
    first, (_, height, width) = kept[0], kept[1].shape
    spread = _spread if gradient.shape[-1] >= _FULL_VECTOR else _interleaved
    sides = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    return (jnp.pad(spread(first, gradient), sides),)


def _spread(first: jax.Array, gradient: jax.Array) -> jax.Array:
    """[B, h, w, C] to [B, 2 h, 2 w, C]: each value at its window's `first`, in one pass."""
    batch, rows, columns, channels = gradient.shape
    place = jnp.arange(4, dtype=first.dtype).reshape(1, 1, 2, 1, 2, 1)
    here = first[:, :, None, :, None] == place
    spread = jnp.where(here, gradient[:, :, None, :, None], jnp.zeros((), gradient.dtype))
    return spread.reshape(batch, rows * 2, columns * 2, channels)


def _interleaved(first: jax.Array, gradient: jax.Array) -> jax.Array:
    """As `_spread`, a sum of four: three times as fast where channels do not fill a vector."""
    zero = jnp.zeros((), gradient.dtype)
    places = []
    for place, (row, column) in enumerate(itertools.product(range(2), range(2))):
        between = ((0, 0, 0), (row, 1 - row, 1), (column, 1 - column, 1), (0, 0, 0))
        places.append(jax.lax.pad(jnp.where(first == place, gradient, zero), zero, between))
    return functools.reduce(jnp.add, places)


_max_of_four.defvjp(_max_of_four_forward, _max_of_four_backward)


def max_pool_3x3(images: jax.Array, padding: int = 0) -> jax.Array:
    """3 x 3 max pooling with stride 2: [B, H, W, C] to [B, (H - 1) // 2 + padding, ...].

    Args:
      images: to pool.
      padding: 0, or 1 pixel on every side that is never the maximum.
    """
    if not cpu_ops.enabled():
        sides = ((padding, padding), (padding, padding))
        return nn.max_pool(images, window_shape=(3, 3), strides=(2, 2), padding=sides)
    if padding:
        width = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        images = jnp.pad(images, width, constant_values=-jnp.inf)
    return _max_of_neighbours(_max_of_neighbours(images, 3, axis=1), 3, axis=2)


def _max_of_neighbours(x: jax.Array, count: int, axis: int) -> jax.Array:
    """The maximum of each `count` neighbours along `axis`, every second one."""
    last = 2 * ((x.shape[axis] - count) // 2)
    shifted = (
        jax.lax.slice_in_dim(x, start, start + last + 1, stride=2, axis=axis)
        for start in range(count)
    )
    return functools.reduce(jnp.maximum, shifted)


def average_pool_3x3(images: jax.Array) -> jax.Array:
    """3 x 3 average pooling with stride 1, same size; padding does not count at the border."""
    return nn.avg_pool(
        images, window_shape=(3, 3), strides=(1, 1), padding="SAME", count_include_pad=False
    )


def global_pool(features: jax.Array, kind: str) -> jax.Array:
    """Pools over the whole picture: [B, H, W, C] to [B, C].

    Raises:
      ValueError: `kind` is not one of `GLOBAL_POOLINGS`.
    """
    if kind not in GLOBAL_POOLINGS:
        raise ValueError(f"expected a pooling of {', '.join(GLOBAL_POOLINGS)}, found {kind!r}")
    if kind == "average":
        return features.mean(axis=(1, 2))
    if cpu_ops.is_disabled():
        return features.max(axis=(1, 2))
    pixels = features.reshape(features.shape[0], -1, features.shape[-1])
    highest = pixels.argmax(axis=1, keepdims=True)
    return jnp.take_along_axis(pixels, highest, axis=1)[:, 0]
