"""`BiasConv` against `nn.Conv`: the same parameters, values and gradients."""

from __future__ import annotations

import contextlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers import cpu_ops
from fer_jax.models.layers.conv import BiasConv
from fer_jax.models.layers.initializers import glorot_uniform


@pytest.mark.parametrize("cpu", [True, False])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_convolution_equals_flax(padding, use_bias, dtype, cpu):
    settings: Any = {"padding": padding, "use_bias": use_bias, "dtype": dtype}
    ours = BiasConv(5, (3, 2), **settings)
    theirs = nn.Conv(5, (3, 2), kernel_init=glorot_uniform, **settings)
    images = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    variables = theirs.init(jax.random.key(1), images)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), images)) == jax.tree.map(
        jnp.shape, variables
    )
    weights = jnp.arange(5.0) - 1  # so that the channels' gradients differ

    def value_and_gradient(layer: nn.Module) -> Any:
        def mean(variables: Any, images: jax.Array) -> jax.Array:
            return (jnp.square(layer.apply(variables, images)) * weights).astype(jnp.float32).mean()

        return jax.value_and_grad(mean, argnums=(0, 1))(variables, images)

    # The reference is float32: in bfloat16, Flax sums a bias' gradient in bfloat16.
    expected = value_and_gradient(theirs.clone(dtype=jnp.float32))
    with contextlib.nullcontext() if cpu else cpu_ops.disabled():
        actual = value_and_gradient(ours)
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2 if cpu else 8e-2
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1e-3, np.abs(b).max()))
