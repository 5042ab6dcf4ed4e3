"""Our BatchNorm against Flax's: the same parameters, values, statistics and gradients."""

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


@pytest.mark.parametrize("form", ["for_cpu", "plain"])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_equals_flax(dtype, use_scale, train, form):
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
    variables = jax.tree.map(  # nothing at its first value; variances stay positive
        lambda array: array + jnp.linspace(0.1, 0.9, array.size).reshape(array.shape), variables
    )
    tilt = jax.random.normal(jax.random.key(2), SHAPE)

    def everything(layer: nn.Module) -> Any:
        def loss(params: Any, maps: jax.Array) -> Any:
            y, state = layer.apply({**variables, "params": params}, maps, mutable=["batch_stats"])
            return (y.astype(jnp.float32) * tilt).sum(), (y, state)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], maps)

    with cpu_ops.disabled() if form == "plain" else contextlib.nullcontext():
        found = everything(ours)
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    for a, b in zip(*map(jax.tree.leaves, (found, everything(theirs))), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=0,
            atol=tolerance * max(1.0, np.abs(np.asarray(b, np.float64)).max()),
        )  # fmt: skip


def test_equal_numbers_have_no_variance():
    layer = BatchNorm(use_running_average=False)
    maps = jnp.full(SHAPE, 1234.567)
    variables = layer.init(jax.random.key(0), maps)
    y, state = layer.apply(variables, maps, mutable=["batch_stats"])
    assert np.isfinite(y).all()
    assert (np.asarray(state["batch_stats"]["var"]) >= 0).all()
