"""`BatchNorm` against Flax's: the same parameters, values, statistics and gradients."""

from __future__ import annotations

import contextlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers import cpu_ops
from fer_jax.models.layers.norm import BatchNorm

SHAPE = (3, 5, 4, 6)


@pytest.mark.parametrize("cpu", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batch_norm_equals_flax(dtype, use_scale, train, cpu):
    settings: Any = {
        "momentum": 0.9, "epsilon": 1e-3, "use_scale": use_scale, "dtype": dtype,
        "use_running_average": not train,
    }  # fmt: skip
    ours, theirs = BatchNorm(**settings), nn.BatchNorm(**settings)
    maps = (3 * jax.random.normal(jax.random.key(0), SHAPE) + 1).astype(dtype)
    variables = theirs.init(jax.random.key(1), maps)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), maps)) == jax.tree.map(
        jnp.shape, variables
    )
    variables = jax.tree.map(  # away from the initial values; variances stay positive
        lambda array: array + jnp.linspace(0.1, 0.9, array.size).reshape(array.shape), variables
    )
    weights = jax.random.normal(jax.random.key(2), SHAPE)

    def values_and_gradients(layer: nn.Module) -> Any:
        def loss(params: Any, maps: jax.Array) -> Any:
            y, state = layer.apply({**variables, "params": params}, maps, mutable=["batch_stats"])
            return (y.astype(jnp.float32) * weights).sum(), (y, state)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], maps)

    with contextlib.nullcontext() if cpu else cpu_ops.disabled():
        actual = values_and_gradients(ours)
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    for a, b in zip(*map(jax.tree.leaves, (actual, values_and_gradients(theirs))), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=0,
            atol=tolerance * max(1.0, np.abs(np.asarray(b, np.float64)).max()),
        )  # fmt: skip


def test_variance_of_equal_numbers_is_not_negative():
    layer = BatchNorm(use_running_average=False)
    maps = jnp.full(SHAPE, 1234.567)
    variables = layer.init(jax.random.key(0), maps)
    y, state = layer.apply(variables, maps, mutable=["batch_stats"])
    assert np.isfinite(y).all()
    assert (np.asarray(state["batch_stats"]["var"]) >= 0).all()
