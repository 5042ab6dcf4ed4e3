"""Convolutions with few filters that compute several neighboring pixels at once, for CPU.

A convolution with 8 filters fills only half of a vector register, and reads its kernel again for
every pixel. Packing p neighboring pixels of a row into the channel axis fixes both: one
convolution with stride p along the row and 8 p filters, each a copy of the kernel shifted by one
pixel in a window p - 1 columns wider. Reshaping its output [B, H, W / p, 8 p] to [B, H, W, 8] is
free, because the memory layout is the same. The gradient with respect to the maps is a
convolution too, and is packed in the same way.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

Pads = tuple[tuple[int, int], ...]  # pixels (before, after) for rows and for columns

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_MAX_PIXELS = 8
_FEW_CHANNELS = 4  # of the input: the kernel is then small enough for twice as many pixels
_FEW_FILTERS = 8  # up to which the kernel's gradient is faster too


def pixels_per_step(channels: int, filters: int, width: int) -> int:
    """Returns how many neighboring pixels to compute at once; 1 is a plain convolution.

    Args:
      channels: of the maps.
      filters: of the kernel.
      width: columns of the output.
    """
    most = min(_MAX_PIXELS, (64 if channels <= _FEW_CHANNELS else 32) // filters)
    return max((count for count in range(1, most + 1) if width % count == 0), default=1)


def is_faster(maps: Sequence[int], kernel: Sequence[int], width: int) -> bool:
    """Whether `convolve` or its gradient is faster than XLA's convolution of stride 1.

    Args:
      maps: shape [B, H, W, C].
      kernel: shape [h, w, C, F]. With w = 1, p pixels would cost p times the arithmetic.
      width: columns of the output.
    """
    _, window, channels, filters = kernel
    forward = pixels_per_step(channels, filters, width)
    backward = pixels_per_step(filters, channels, maps[2])
    return window > 1 and max(forward, backward) > 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(maps: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """Convolves [B, H, W, C] with [h, w, C, F] at stride 1 to [B, H', W', F]."""
    _, window, channels, filters = kernel.shape
    width = maps.shape[2] + sum(pads[1]) - window + 1
    return _packed(maps, kernel, pads, pixels_per_step(channels, filters, width))


def _packed(maps: jax.Array, kernel: jax.Array, pads: Pads, count: int) -> jax.Array:
    """`convolve`, `count` pixels at once."""
    rows, columns, channels, filters = kernel.shape
    shifted = [
        jnp.pad(kernel, ((0, 0), (pixel, count - 1 - pixel), (0, 0), (0, 0)))
        for pixel in range(count)
    ]
    wide = jnp.stack(shifted, axis=3).reshape(rows, columns + count - 1, channels, count * filters)
    y = jax.lax.conv_general_dilated(maps, wide, (1, count), pads, dimension_numbers=_LAYOUT)
    return y.reshape(*y.shape[:2], y.shape[2] * count, filters)


def _forward(
    maps: jax.Array, kernel: jax.Array, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(maps, kernel, pads), (maps, kernel)


def _backward(
    pads: Pads, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    maps, kernel = residuals
    *window, channels, filters = kernel.shape
    count = pixels_per_step(channels, filters, gradient.shape[2]) if filters <= _FEW_FILTERS else 1
    _, kernel_vjp = jax.vjp(lambda kernel: _packed(maps, kernel, pads, count), kernel)
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    outer = tuple(
        (size - 1 - low, size - 1 - high) for size, (low, high) in zip(window, pads, strict=True)
    )
    count = pixels_per_step(filters, channels, maps.shape[2])
    return _packed(gradient, flipped, outer, count), *kernel_vjp(gradient)


convolve.defvjp(_forward, _backward)
