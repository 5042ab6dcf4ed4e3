"""The ReLU at the end of a residual block."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.models.layers import cpu_ops
from fer_jax.models.layers.residual import relu_of_sum


class Sum(nn.Module):
    """A residual block with one layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return relu_of_sum(self, x + nn.Dense(x.shape[-1])(x))


def test_relu_of_sum_equals_relu():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    variables = Sum().init(jax.random.key(1), x)
    layer, weights = nn.Dense(5), jax.random.normal(jax.random.key(2), x.shape)
    actual = jax.jit(jax.value_and_grad(lambda v, x: (Sum().apply(v, x) * weights).sum(), (0, 1)))

    def reference(variables: Any, x: jax.Array) -> jax.Array:
        y = layer.apply({"params": variables["params"]["Dense_0"]}, x)
        return (nn.relu(x + y) * weights).sum()

    expected = jax.jit(jax.value_and_grad(reference, (0, 1)))
    for sign in (1, -1):  # both branches of the conditional, which tests a parameter
        variables["params"]["Dense_0"]["bias"] = jnp.full(5, 0.5 + sign)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
            actual(variables, x), expected(variables, x),
        )  # fmt: skip


def test_relu_is_conditional_on_cpu_only():
    x = jnp.ones((2, 3, 4, 5))
    variables = Sum().init(jax.random.key(1), x)
    assert "cond[" in str(jax.make_jaxpr(Sum().apply)(variables, x))
    with cpu_ops.disabled():
        assert "cond[" not in str(jax.make_jaxpr(Sum().apply)(variables, x))
