"""The ReLU at the end of a residual block."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.models.layers import cpu_ops
from fer_jax.models.layers import residual


class Sum(nn.Module):
    """A residual block of one layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return residual.relu_of_sum(self, x + nn.Dense(x.shape[-1])(x))


def test_relu_of_a_sum():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    variables = Sum().init(jax.random.key(1), x)
    layer, tilt = nn.Dense(5), jax.random.normal(jax.random.key(2), x.shape)
    found = jax.jit(jax.value_and_grad(lambda v, x: (Sum().apply(v, x) * tilt).sum(), (0, 1)))

    def plain(variables: Any, x: jax.Array) -> jax.Array:
        y = layer.apply({"params": variables["params"]["Dense_0"]}, x)
        return (nn.relu(x + y) * tilt).sum()

    expected = jax.value_and_grad(plain, (0, 1))
    for sign in (1, -1):  # both sides of the condition, which looks at a parameter
        variables["params"]["Dense_0"]["bias"] = jnp.full(5, 0.5 + sign)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
            found(variables, x), expected(variables, x),
        )  # fmt: skip


def test_a_sum_behind_which_xla_cannot_see():
    x = jnp.ones((2, 3, 4, 5))
    variables = Sum().init(jax.random.key(1), x)
    assert "cond[" in str(jax.make_jaxpr(Sum().apply)(variables, x))
    with cpu_ops.disabled():
        assert "cond[" not in str(jax.make_jaxpr(Sum().apply)(variables, x))
