"""The convolutions of the networks, in the form that is fast where they run.

XLA takes a kernel of more pixels than its map for the map, and the map for the kernel. On CPU
what comes out has no fast form: 3 x 3 convolutions of 2 x 2 maps, which networks for large
pictures have of small ones, take some eighty times as long as they need, the gradient of one
that makes such maps eighteen times (benchmarks/RESULTS.md). There the convolution is a matrix
product. So is one of single pixels: its gradients are products then too, where XLA makes a
convolution with the batch for channels of the kernel's.
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
from jax.typing import DTypeLike

from fer_jax.models.layers import cpu_ops, multi_pixel_conv
from fer_jax.models.layers.initializers import glorot_uniform
from fer_jax.models.layers.sums import channel_sums


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
    smallest, size = min(math.prod(sides), math.prod(results)), math.prod(window)
    is_product = smallest < size or (size == 1 and not any(map(any, pads)))
    if cpu_ops.enabled() and smallest > 0:
        if is_product:
            return _product(maps, kernel, strides, pads, results)
        if set(strides) == {1} and multi_pixel_conv.is_faster(maps.shape, kernel.shape, results[1]):
            return multi_pixel_conv.convolve(maps, kernel, tuple(map(tuple, pads)))
    return jax.lax.conv_general_dilated(maps, kernel, strides, pads, **settings)


def _product(
    maps: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    results: Sequence[int],
) -> jax.Array:
    """The convolution as one matrix product of what each of `results` rows and columns sees."""
    sides, window = maps.shape[1:3], kernel.shape[:2]
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

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class BiasConv(nn.Module):
    """A convolution of [B, H, W, C], with bias as a rule; its parameters are those of `nn.Conv`.

    Attributes:
      features: number of filters.
      kernel_size: rows and columns.
      padding: "SAME" or "VALID".
      use_bias: whether there is a bias.
      dtype: of the computation; parameters stay float32.
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    padding: str = "SAME"
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H', W', features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", glorot_uniform, shape)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = convolve(x, kernel, (1, 1), self.padding, dimension_numbers=_LAYOUT)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return _with_bias(y, bias) if cpu_ops.enabled() else y + bias


@jax.custom_vjp
def _with_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    return x + bias


def _with_bias_backward(_: None, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient, channel_sums(gradient)


_with_bias.defvjp(lambda x, bias: (x + bias, None), _with_bias_backward)
