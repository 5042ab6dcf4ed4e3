"""Sums, with and without the CPU operations, against NumPy in double precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers import cpu_ops, sums


@pytest.mark.parametrize("length", [0, 1, 4096, 4097, 16 * 4096 + 15, 1_000_003])
def test_sum_of_squares(length):
    x = np.random.default_rng(0).random(length, np.float32)
    actual = jax.jit(sums.sum_of_squares)(x)
    assert actual.dtype == jnp.float32
    assert actual.shape == ()
    assert float(actual) == pytest.approx(np.square(x.astype(np.float64)).sum(), rel=1e-6)
    with cpu_ops.disabled():
        assert float(sums.sum_of_squares(x)) == pytest.approx(float(actual), rel=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (5, 4), (2, 7, 6, 3)])
def test_channel_sums(shape, dtype):
    x = jnp.asarray(np.random.default_rng(0).random(shape), dtype)
    expected = np.asarray(x, np.float64).reshape(-1, shape[-1]).sum(axis=0)
    for actual in (sums.channel_sums(x), _plain_channel_sums(x)):
        assert actual.dtype == dtype
        np.testing.assert_allclose(
            np.asarray(actual, np.float64), expected, rtol=1e-6 if dtype == jnp.float32 else 8e-3
        )


def _plain_channel_sums(x: jax.Array) -> jax.Array:
    with cpu_ops.disabled():
        return sums.channel_sums(x)
