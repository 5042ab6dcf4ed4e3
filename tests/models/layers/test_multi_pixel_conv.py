"""Multi-pixel convolutions against XLA's: values, gradients, and when they are used."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers import multi_pixel_conv
from fer_jax.models.layers.conv import convolve

SAME, VALID = ((1, 1), (1, 1)), ((0, 0), (0, 0))


@pytest.mark.parametrize(
    ("maps", "kernel", "pads", "count"),
    [
        ((2, 12, 12, 3), (3, 3, 3, 8), SAME, 6),
        ((2, 12, 12, 8), (3, 3, 8, 8), SAME, 4),
        ((2, 9, 14, 16), (3, 3, 16, 16), SAME, 2),
        ((2, 9, 14, 3), (3, 3, 3, 32), VALID, 2),
        ((1, 8, 13, 5), (2, 4, 5, 8), ((1, 0), (0, 2)), 4),
        ((2, 8, 11, 16), (3, 3, 16, 8), VALID, 3),
        (
            (2, 8, 12, 8),
            (1, 5, 8, 64),
            ((0, 0), (2, 2)),
            1,
        ),  # only the maps' gradient
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_equal_xla(maps, kernel, pads, count, dtype):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=shape), dtype) for shape in (maps, kernel))
    layout: Any = ("NHWC", "HWIO", "NHWC")

    def reference(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, w, (1, 1), pads, dimension_numbers=layout)

    shape = jax.eval_shape(reference, x, w).shape
    cotangent = jnp.asarray(rng.normal(size=shape), dtype)
    assert multi_pixel_conv.pixels_per_step(*kernel[2:], shape[2]) == count
    assert multi_pixel_conv.is_faster(maps, kernel, shape[2])

    def value_and_gradients(function: Any) -> Any:
        y, pullback = jax.vjp(function, x, w)
        return y, *pullback(cotangent)

    actual = value_and_gradients(lambda x, w: multi_pixel_conv.convolve(x, w, pads))
    for a, b in zip(actual, value_and_gradients(reference), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        a, b = (np.asarray(array, np.float64) for array in (a, b))
        tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(
    ("channels", "filters", "width", "count"),
    [
        (3, 8, 100, 5), (8, 8, 100, 4), (8, 8, 97, 1), (8, 16, 50, 2), (32, 64, 220, 1),
        (3, 64, 224, 1),
    ],
)  # fmt: skip
def test_pixels_per_step(channels, filters, width, count):
    assert multi_pixel_conv.pixels_per_step(channels, filters, width) == count


@pytest.mark.parametrize(
    ("kernel", "strides", "used"),
    [
        ((3, 3, 8, 8), (1, 1), True),
        ((3, 3, 8, 8), (2, 2), False),
        ((3, 1, 8, 8), (1, 1), False),
        ((3, 3, 8, 64), (1, 1), True),
        ((3, 3, 64, 64), (1, 1), False),
    ],
)
def test_used_when_faster(kernel, strides, used):
    x, w = jnp.zeros((1, 10, 10, kernel[2])), jnp.zeros(kernel)
    layout: Any = ("NHWC", "HWIO", "NHWC")
    program = jax.make_jaxpr(
        lambda x, w: convolve(x, w, strides, "SAME", dimension_numbers=layout)
    )(x, w)
    assert ("custom_vjp_call" in str(program)) == used
