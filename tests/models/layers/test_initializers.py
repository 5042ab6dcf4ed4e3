"""Glorot's uniform initializer in NumPy: its distribution, and what its values depend on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers.initializers import glorot_uniform, numpy_glorot_uniform

SHAPE = (3, 3, 40, 50)
GOLDEN = [[0.05839288, 0.9807298, 0.42372346], [-0.34301794, 0.87491536, -0.6113253]]


def draw(path: str, seed: int) -> bytes:
    return numpy_glorot_uniform(path, SHAPE, np.float32, seed).tobytes()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_distribution_is_that_of_jax(dtype):
    expected = np.asarray(glorot_uniform(jax.random.key(0), SHAPE, dtype))
    actual = numpy_glorot_uniform("params/conv/kernel", SHAPE, dtype, 0)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    limit = np.sqrt(6 / (9 * (40 + 50)))
    for array in (actual, expected):
        # The mean and the variance of n draws from [-1, 1) deviate by sqrt(1/3n) and sqrt(4/45n).
        scaled, rare = array.astype(np.float64) / limit, 6 / np.sqrt(array.size)
        assert np.abs(scaled).max() <= 1 + rare
        assert abs(scaled.mean()) < rare
        assert scaled.var() == pytest.approx(1 / 3, abs=rare)


def test_values_depend_on_seed_and_path_alone():
    assert draw("b", 7) == draw("b", 7)
    assert len({draw("b", 7), draw("a", 7), draw("c", 7), draw("b", 8), draw("b", -7)}) == 5


def test_values_are_the_same_on_every_machine():
    """May change only with the way of drawing: runs of one seed would start differently."""
    actual = numpy_glorot_uniform("head/kernel", (2, 3), np.float32, 0)
    np.testing.assert_allclose(actual, GOLDEN, rtol=1e-6)
