"""Pooling with gradients that are fast on CPU.

XLA lowers the gradient of `nn.max_pool` to select-and-scatter, which on CPU costs more than the
convolutions around it. Instead, 2 x 2 pooling stores the position of each maximum, and its
gradient is a select; 3 x 3 pooling is the maximum of shifted slices, whose gradient is
elementwise. The values are equal. On ties, 2 x 2 pooling passes the gradient to the first pixel,
as XLA does; 3 x 3 pooling splits it among the tied pixels.

No maximum with a gradient is a reduction. A reduction's gradient goes to the elements that equal
the maximum, and XLA may compute those elements again for the comparison, with other rounding. For
BatchNorm followed by a maximum on CPU it did, and lost a tenth of the gradient.
"""

from __future__ import annotations

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from fer_jax.models.layers import cpu_ops

GLOBAL_POOLINGS = ("average", "max")

_FULL_VECTOR = 16  # channels that fill a vector register in XLA's inner loop


def max_pool_2x2(images: jax.Array) -> jax.Array:
    """2 x 2 max pooling with stride 2, "VALID": [B, H, W, C] to [B, H // 2, W // 2, C]."""
    if cpu_ops.enabled():
        return _max_2x2(images)
    return nn.max_pool(images, window_shape=(2, 2), strides=(2, 2))


@jax.custom_vjp
def _max_2x2(images: jax.Array) -> jax.Array:
    return _max_and_position(images)[0]


def _max_and_position(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum of each window, and the position 0 to 3 of its first occurrence."""
    _, height, width, _ = images.shape
    highest, *others = (
        images[:, row : height // 2 * 2 : 2, column : width // 2 * 2 : 2]
        for row, column in itertools.product(range(2), range(2))
    )
    first = jnp.zeros(highest.shape, jnp.uint8)
    for position, pixels in enumerate(others, 1):
        first = jnp.where(pixels > highest, jnp.uint8(position), first)
        highest = jnp.maximum(highest, pixels)
    return highest, first


def _max_2x2_forward(images: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    highest, first = _max_and_position(images)
    return highest, (first, jnp.zeros((0, *images.shape[1:3])))  # for its shape alone


def _max_2x2_backward(
    residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array]:
    first, (_, height, width) = residuals[0], residuals[1].shape
    scatter = _scatter if gradient.shape[-1] >= _FULL_VECTOR else _scatter_as_sum
    sides = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    return (jnp.pad(scatter(first, gradient), sides),)


def _scatter(first: jax.Array, gradient: jax.Array) -> jax.Array:
    """[B, h, w, C] to [B, 2 h, 2 w, C]: each value at position `first` of its window."""
    batch, rows, columns, channels = gradient.shape
    positions = jnp.arange(4, dtype=first.dtype).reshape(1, 1, 2, 1, 2, 1)
    selected = first[:, :, None, :, None] == positions
    windows = jnp.where(selected, gradient[:, :, None, :, None], jnp.zeros((), gradient.dtype))
    return windows.reshape(batch, rows * 2, columns * 2, channels)


def _scatter_as_sum(first: jax.Array, gradient: jax.Array) -> jax.Array:
    """`_scatter` as a sum of four arrays: three times as fast with few channels."""
    zero = jnp.zeros((), gradient.dtype)
    terms = []
    for position, (row, column) in enumerate(itertools.product(range(2), range(2))):
        padding = ((0, 0, 0), (row, 1 - row, 1), (column, 1 - column, 1), (0, 0, 0))
        terms.append(jax.lax.pad(jnp.where(first == position, gradient, zero), zero, padding))
    return functools.reduce(jnp.add, terms)


_max_2x2.defvjp(_max_2x2_forward, _max_2x2_backward)


def max_pool_3x3(images: jax.Array, padding: tuple[int, int] = (0, 0)) -> jax.Array:
    """3 x 3 max pooling with stride 2: [B, H, W, C] to [B, (H - 1 + sum(padding)) // 2, ...].

    Args:
      images: [B, H, W, C].
      padding: rows of minus infinity above and below; as many columns on the left and right.
    """
    if not cpu_ops.enabled():
        sides = (padding, padding)
        return nn.max_pool(images, window_shape=(3, 3), strides=(2, 2), padding=sides)
    if any(padding):
        width = ((0, 0), padding, padding, (0, 0))
        images = jnp.pad(images, width, constant_values=-jnp.inf)
    return _max_along(_max_along(images, 3, axis=1), 3, axis=2)


def _max_along(x: jax.Array, count: int, axis: int) -> jax.Array:
    """Max pooling of `count` elements along `axis` with stride 2."""
    last = 2 * ((x.shape[axis] - count) // 2)
    shifted = (
        jax.lax.slice_in_dim(x, start, start + last + 1, stride=2, axis=axis)
        for start in range(count)
    )
    return functools.reduce(jnp.maximum, shifted)


def average_pool_3x3(images: jax.Array) -> jax.Array:
    """3 x 3 average pooling with stride 1, "SAME"; padding is excluded from the averages."""
    return nn.avg_pool(
        images, window_shape=(3, 3), strides=(1, 1), padding="SAME", count_include_pad=False
    )


def global_pool(features: jax.Array, kind: str) -> jax.Array:
    """Pools over all pixels: [B, H, W, C] to [B, C].

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
