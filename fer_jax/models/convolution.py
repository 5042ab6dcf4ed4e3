"""The convolution of the networks, in the form that is fast where they run.

XLA takes a kernel of more pixels than its map for the map, and the map for the kernel. On CPU
what comes out has no fast form: 3 x 3 convolutions of 2 x 2 maps, which networks for large
pictures have of small ones, take some eighty times as long as they need, the gradient of one
that makes such maps eighteen times (benchmarks/RESULTS.md). There the convolution is a matrix
product.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fer_jax.models.pooling import takes_windows


def convolve(
    maps: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **settings: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` of [B, H, W, C] and [h, w, C, F]: [B, H', W', F].

    Args:
      maps: to convolve.
      kernel: of the convolution.
      strides: along rows and columns.
      padding: "SAME", "VALID", or in pixels for each side.
      **settings: the other arguments that `nn.Conv` gives, which are its defaults here.
    """
    sides, window = maps.shape[1:3], kernel.shape[:2]
    pads = padding
    if isinstance(pads, str):
        pads = jax.lax.padtype_to_pads(sides, window, strides, pads)
    padded = [side + low + high for side, (low, high) in zip(sides, pads, strict=True)]
    results = [
        (side - size) // stride + 1
        for side, size, stride in zip(padded, window, strides, strict=True)
    ]
    smallest = min(math.prod(sides), math.prod(results))
    if takes_windows() or not 0 < smallest < math.prod(window):
        return jax.lax.conv_general_dilated(maps, kernel, strides, pads, **settings)
    rows, columns = map(_taps, sides, [low for low, _ in pads], window, strides, results)
    maps = jnp.pad(maps, ((0, 0), *pads, (0, 0)))
    seen = [
        maps[:, row :: strides[0], column :: strides[1]][:, : results[0], : results[1]]
        for row, column in itertools.product(rows, columns)
    ]
    used = kernel[rows.start : rows.stop, columns.start : columns.stop]
    return jnp.concatenate(seen, axis=-1) @ used.reshape(-1, kernel.shape[-1])


def _taps(side: int, padding: int, size: int, stride: int, count: int) -> range:
    """The part of a kernel's side that meets pixels, not padding alone, at `count` places."""
    met = [
        tap
        for tap, place in itertools.product(range(size), range(count))
        if 0 <= place * stride + tap - padding < side
    ]
    return range(min(met), max(met) + 1)


Conv = functools.partial(nn.Conv, conv_general_dilated_cls=lambda: convolve)
"""`nn.Conv` that convolves so."""
