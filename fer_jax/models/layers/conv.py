"""The convolutions of the networks: XLA's own, or an equivalent that is faster on CPU.

If a kernel has more pixels than its feature map, XLA swaps the two, and has no fast CPU code for
the result. A 3 x 3 convolution of 2 x 2 maps then takes about 80 times as long as a matrix
product, and the gradient of one that outputs such maps 18 times (measured in results/speed.md).
Networks built for large images have such maps when their input is small. On CPU these convolutions
are computed as one matrix product. So are 1 x 1 convolutions, because their gradients are then
matrix products too; XLA computes the kernel's gradient as a convolution over the batch.
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
      maps: [B, H, W, C].
      kernel: [h, w, C, F].
      strides: along rows and columns.
      padding: "SAME", "VALID", or pixels (before, after) for rows and for columns.
      **settings: the other arguments that `nn.Conv` passes; only its defaults are supported.
    """
    sides, window = maps.shape[1:3], kernel.shape[:2]
    pads = padding
    if isinstance(pads, str):
        pads = jax.lax.padtype_to_pads(sides, window, strides, pads)
    padded = [side + low + high for side, (low, high) in zip(sides, pads, strict=True)]
    outputs = [
        (side - size) // stride + 1
        for side, size, stride in zip(padded, window, strides, strict=True)
    ]
    smallest, size = min(math.prod(sides), math.prod(outputs)), math.prod(window)
    is_product = smallest < size or (size == 1 and not any(map(any, pads)))
    if cpu_ops.enabled() and smallest > 0:
        if is_product:
            return _matrix_product(maps, kernel, strides, pads, outputs)
        if set(strides) == {1} and multi_pixel_conv.is_faster(maps.shape, kernel.shape, outputs[1]):
            return multi_pixel_conv.convolve(maps, kernel, tuple(map(tuple, pads)))
    return jax.lax.conv_general_dilated(maps, kernel, strides, pads, **settings)


def _matrix_product(
    maps: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    outputs: Sequence[int],
) -> jax.Array:
    """Convolves by one matrix product of the patches and the kernel; `outputs` is (H', W')."""
    sides, window = maps.shape[1:3], kernel.shape[:2]
    rows, columns = map(_taps, sides, [low for low, _ in pads], window, strides, outputs)
    maps = jnp.pad(maps, ((0, 0), *pads, (0, 0)))
    patches = [
        maps[:, row :: strides[0], column :: strides[1]][:, : outputs[0], : outputs[1]]
        for row, column in itertools.product(rows, columns)
    ]
    used = kernel[rows.start : rows.stop, columns.start : columns.stop]
    return jnp.concatenate(patches, axis=-1) @ used.reshape(-1, kernel.shape[-1])


def _taps(side: int, padding: int, size: int, stride: int, count: int) -> range:
    """Returns the kernel's rows (or columns) that reach the map from any of `count` outputs."""
    used = [
        tap
        for tap, output in itertools.product(range(size), range(count))
        if 0 <= output * stride + tap - padding < side
    ]
    return range(min(used), max(used) + 1)


Conv = functools.partial(nn.Conv, conv_general_dilated_cls=lambda: convolve)
"""`nn.Conv` with `convolve`."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class BiasConv(nn.Module):
    """A convolution of stride 1 whose bias has a gradient that is fast on CPU.

    Its parameters are those of `nn.Conv`.

    Attributes:
      features: number of filters.
      kernel_size: rows and columns.
      padding: "SAME" or "VALID".
      use_bias: whether to add a bias.
      dtype: of the computation; parameters are float32.
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
        return _add_bias(y, bias) if cpu_ops.enabled() else y + bias


@jax.custom_vjp
def _add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    return x + bias


def _add_bias_backward(_: None, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient, channel_sums(gradient)


_add_bias.defvjp(lambda x, bias: (x + bias, None), _add_bias_backward)
