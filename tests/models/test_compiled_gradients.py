"""A gradient compiled with the training options equals the one computed without compilation."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers import pool as pooling
from fer_jax.runtime import xla_options

SIZE, BATCH = 16, 16


class Normed(nn.Module):
    """Two convolutions with BatchNorm, then a maximum: `custom_cnn` with `batch_norm`, smaller."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for width in (32, 64):
            x = nn.Conv(width, (3, 3), padding="VALID", use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = pooling.max_pool_2x2(x)
        return nn.Dense(3)(nn.relu(nn.Dense(16)(x.reshape(x.shape[0], -1))))


@pytest.mark.slow
def test_gradient_of_a_maximum_after_batch_norm():
    # XLA fuses BatchNorm into each of its readers, with different rounding. A gradient that looks
    # for the elements equal to the maximum then misses some.
    network = Normed()
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = jnp.asarray(rng.integers(0, 3, BATCH))
    variables: Any = network.init(jax.random.key(0), images, train=False)

    def loss(params: Any) -> jax.Array:
        logits, _ = network.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )  # fmt: skip
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    compiled = jax.jit(jax.grad(loss), compiler_options=xla_options.for_model())(
        variables["params"]
    )
    expected = jax.grad(loss)(variables["params"])  # one operation at a time
    for actual, reference in zip(jax.tree.leaves(compiled), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(actual, reference, atol=1e-4 * np.abs(reference).max())
