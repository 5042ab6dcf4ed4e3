"""Convolutions to few channels, several pixels at a time: the form that is fast on CPUs.

A convolution to 8 channels fills half of a vector register, and reads its kernel for each
pixel. The same numbers come from one to 8 p channels, for p neighbouring pixels of a row: its
kernel is p - 1 columns wider, mostly zeros, and steps p columns at a time; what comes out lies in
memory as the pixels do. The gradient by the maps is such a convolution too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

Pads = tuple[tuple[int, int], ...]  # pixels before and behind, of rows and of columns

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_MOST = 8  # pixels
_FEW = 4  # channels of maps, whose kernels are small enough to be twice as wide
_NARROW = 8  # filters up to which the kernel's gradient gains too


def pixels(channels: int, filters: int, width: int) -> int:
    """How many neighbouring pixels of a row are best computed at a time; 1 for "as ever".

    Args:
      channels: of the maps.
      filters: of the kernel.
      width: columns of the result.
    """
    most = min(_MOST, (64 if channels <= _FEW else 32) // filters)
    return max((count for count in range(1, most + 1) if width % count == 0), default=1)


def gains(maps: Sequence[int], kernel: Sequence[int], width: int) -> bool:
    """Whether a convolution of stride 1 gains, or its gradient.

    Args:
      maps: their shape [B, H, W, C].
      kernel: its shape [h, w, C, F]; one of a single column would do p times the work.
      width: columns of the result.
    """
    _, window, channels, filters = kernel
    counts = pixels(channels, filters, width), pixels(filters, channels, maps[2])
    return window > 1 and max(counts) > 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(maps: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """The convolution of stride 1 of [B, H, W, C] and [h, w, C, F]: [B, H', W', F]."""
    _, window, channels, filters = kernel.shape
    width = maps.shape[2] + sum(pads[1]) - window + 1
    return _together(maps, kernel, pads, pixels(channels, filters, width))


def _together(maps: jax.Array, kernel: jax.Array, pads: Pads, count: int) -> jax.Array:
    """`convolve`, `count` pixels at a time."""
    rows, columns, channels, filters = kernel.shape
    moved = [
        jnp.pad(kernel, ((0, 0), (pixel, count - 1 - pixel), (0, 0), (0, 0)))
        for pixel in range(count)
    ]
    wide = jnp.stack(moved, axis=3).reshape(rows, columns + count - 1, channels, count * filters)
    y = jax.lax.conv_general_dilated(maps, wide, (1, count), pads, dimension_numbers=_LAYOUT)
    return y.reshape(*y.shape[:2], y.shape[2] * count, filters)


def _forward(
    maps: jax.Array, kernel: jax.Array, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(maps, kernel, pads), (maps, kernel)


def _backward(
    pads: Pads, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    maps, kernel = kept
    *window, channels, filters = kernel.shape
    count = pixels(channels, filters, gradient.shape[2]) if filters <= _NARROW else 1
    _, by_kernel = jax.vjp(lambda kernel: _together(maps, kernel, pads, count), kernel)
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    outer = tuple(
        (size - 1 - low, size - 1 - high) for size, (low, high) in zip(window, pads, strict=True)
    )
    count = pixels(filters, channels, maps.shape[2])
    return _together(gradient, turned, outer, count), *by_kernel(gradient)


convolve.defvjp(_forward, _backward)
