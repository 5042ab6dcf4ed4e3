"""Pooling, each in the form whose gradient is fast where the network runs.

XLA lowers the gradient of a windowed maximum to select-and-scatter, which on
CPU costs more than the convolutions around it; a maximum over a reshaped array
or over shifted slices has an elementwise gradient. Values are equal; on ties within
a window the gradient is shared among the tied pixels instead of given to the first one.
"""

from __future__ import annotations

import contextlib
import contextvars
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


def _takes_windows() -> bool:
    return _WINDOWED.get() or jax.default_backend() != "cpu"


def max_pool_2x2(images: jax.Array) -> jax.Array:
    """2 x 2 max pooling with stride 2, valid: [B, H, W, C] to [B, H // 2, W // 2, C]."""
    if _takes_windows():
        return nn.max_pool(images, window_shape=(2, 2), strides=(2, 2))
    batch, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    windows = images[:, : rows * 2, : columns * 2].reshape(batch, rows, 2, columns, 2, channels)
    return windows.max(axis=(2, 4))


def max_pool_3x3(images: jax.Array) -> jax.Array:
    """3 x 3 max pooling with stride 2, valid: [B, H, W, C] to [B, (H - 1) // 2, ...]."""
    if _takes_windows():
        return nn.max_pool(images, window_shape=(3, 3), strides=(2, 2))
    return _max_of_three(_max_of_three(images, axis=1), axis=2)


def _max_of_three(x: jax.Array, axis: int) -> jax.Array:
    """The maximum of each three neighbours along `axis`, every second one."""
    last = 2 * ((x.shape[axis] - 3) // 2)
    first, second, third = (
        jax.lax.slice_in_dim(x, start, start + last + 1, stride=2, axis=axis) for start in range(3)
    )
    return jnp.maximum(jnp.maximum(first, second), third)


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
    return features.mean(axis=(1, 2)) if kind == "average" else features.max(axis=(1, 2))
