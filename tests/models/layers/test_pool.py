"""Pooling against `nn.max_pool`, NumPy and loops."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers import cpu_ops
from fer_jax.models.layers import pool as pooling

MAX_POOLS = {2: pooling.max_pool_2x2, 3: pooling.max_pool_3x3}


@pytest.mark.parametrize("side", [3, 6])
@pytest.mark.parametrize(
    ("window", "padding"), [(2, (0, 0)), (3, (0, 0)), (3, (1, 1)), (3, (0, 1))]
)
def test_max_pooling_equals_the_windowed_maximum(window, padding, side):
    # Distinct values: on ties, 3 x 3 pooling splits the gradient differently.
    images = jax.random.permutation(jax.random.key(0), jnp.arange(2.0 * side * (side + 1) * 3))
    # Some negative values, for which zero padding would be the maximum.
    images = images.reshape(2, side, side + 1, 3) - 100
    pool = functools.partial(MAX_POOLS[window], **({"padding": padding} if any(padding) else {}))
    windowed = functools.partial(
        nn.max_pool, window_shape=(window, window), strides=(2, 2), padding=(padding, padding)
    )
    np.testing.assert_array_equal(pool(images), windowed(images))
    with cpu_ops.disabled():
        np.testing.assert_array_equal(pool(images), windowed(images))
    gradient = lambda pool: jax.grad(lambda x: (pool(x) ** 2).sum())(images)  # noqa: E731
    np.testing.assert_array_equal(gradient(pool), gradient(windowed))


@pytest.mark.parametrize("channels", [3, 16, 19])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_ties_of_2x2_pooling_equal_the_windowed_maximum(channels, dtype):
    images = jax.random.randint(jax.random.key(0), (3, 7, 8, channels), -1, 2).astype(dtype)
    weights = jax.random.normal(jax.random.key(1), (3, 3, 4, channels), dtype)

    def gradient() -> jax.Array:
        return jax.jit(jax.grad(lambda x: (pooling.max_pool_2x2(x) * weights).sum()))(images)

    actual = gradient()
    with cpu_ops.disabled():
        jax.clear_caches()
        np.testing.assert_array_equal(actual, gradient())


@pytest.mark.parametrize("window", sorted(MAX_POOLS))
def test_tied_pixels_get_the_whole_gradient(window):
    gradient = jax.grad(lambda x: MAX_POOLS[window](x).sum())(jnp.ones((1, window, window, 1)))
    assert gradient.sum() == pytest.approx(1)
    assert (gradient >= 0).all()


def test_average_pooling_excludes_padding():
    images = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    expected = np.empty_like(images)
    for row in range(4):
        for column in range(5):
            rows, columns = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
            expected[:, row, column] = images[:, rows, columns].mean(axis=(1, 2))
    np.testing.assert_allclose(pooling.average_pool_3x3(images), expected, atol=1e-6)


def test_global_pooling():
    features = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    average, highest = (pooling.global_pool(features, kind) for kind in pooling.GLOBAL_POOLINGS)
    np.testing.assert_allclose(average, features.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_array_equal(highest, features.max(axis=(1, 2)))
    with pytest.raises(ValueError, match="average, max, found 'mean'"):
        pooling.global_pool(features, "mean")
