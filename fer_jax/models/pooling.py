"""Pooling, each in the form whose gradient is fast where the network runs.

XLA lowers the gradient of a windowed maximum to select-and-scatter, which on
CPU costs more than the convolutions around it; a maximum over shifted slices has an
elementwise gradient. Values are equal; on ties within a window the gradient is shared among
the tied pixels instead of given to the first one.

No maximum is a reduction where a gradient is taken: that gradient goes to the elements that
equal the maximum, and a compiler that computes the elements anew for the comparison may round
them otherwise. XLA did for BatchNorm before a maximum on CPU, and lost a tenth of the gradient.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

GLOBAL_POOLINGS = ("average", "max")

_WINDOWED = contextvars.ContextVar("windowed", default=False)


@contextlib.contextmanager
def windowed() -> Iterator[None]:
    """Inside, maxima are windowed operations wherever the network runs.

    For programs that are exported: they take no gradient, and run on other devices.
    """
    token = _WINDOWED.set(True)
    try:
        yield
    finally:
        _WINDOWED.reset(token)


def takes_windows() -> bool:
    """Whether a network runs, or is to run, where windowed operations are fast."""
    return _WINDOWED.get() or jax.default_backend() != "cpu"


def max_pool_2x2(images: jax.Array) -> jax.Array:
    """2 x 2 max pooling with stride 2, valid: [B, H, W, C] to [B, H // 2, W // 2, C]."""
    if takes_windows():
        return nn.max_pool(images, window_shape=(2, 2), strides=(2, 2))
    return _max_of_neighbours(_max_of_neighbours(images, 2, axis=1), 2, axis=2)


def max_pool_3x3(images: jax.Array, padding: int = 0) -> jax.Array:
    """3 x 3 max pooling with stride 2: [B, H, W, C] to [B, (H - 1) // 2 + padding, ...].

    Args:
      images: to pool.
      padding: 0, or 1 pixel on every side that is never the maximum.
    """
    if takes_windows():
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
    if _WINDOWED.get():
        return features.max(axis=(1, 2))
    pixels = features.reshape(features.shape[0], -1, features.shape[-1])
    highest = pixels.argmax(axis=1, keepdims=True)
    return jnp.take_along_axis(pixels, highest, axis=1)[:, 0]
