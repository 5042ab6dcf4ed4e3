"""`convolve` against XLA's convolution, and when it is a matrix product."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers import cpu_ops
from fer_jax.models.layers.conv import Conv

# (rows, columns) of the map and of the kernel, stride, padding; whether it is a product.
CASES = [
    ((3, 3), (3, 3), 1, 1, False),
    ((4, 3), (3, 3), 1, "SAME", False),
    ((3, 3), (1, 1), 1, 1, False),
    ((4, 3), (1, 1), 1, "SAME", True),
    ((5, 4), (1, 1), 2, "VALID", True),
    ((2, 2), (1, 1), 2, 0, True),
    ((2, 2), (1, 3), 1, "SAME", False),
    ((2, 2), (3, 3), 1, 1, True),
    ((2, 2), (3, 3), 1, "SAME", True),
    ((3, 3), (3, 3), 2, 1, True),
    ((5, 6), (3, 3), 2, "VALID", True),
    ((1, 1), (3, 3), 1, 1, True),
    ((1, 1), (1, 3), 1, "SAME", True),
    ((2, 3), (7, 7), 2, 3, True),
    ((1, 4), (5, 3), 1, "SAME", True),
    ((1, 1), (3, 3), 3, ((0, 4), (0, 4)), True),  # the second output sees only padding
]


def is_product(conv, variables, maps) -> bool:
    program = str(jax.make_jaxpr(conv.apply)(variables, maps))
    operations = [name for name in ("dot_general[", "conv_general_dilated[") if name in program]
    assert len(operations) == 1
    return operations == ["dot_general["]


@pytest.mark.parametrize(("side", "window", "stride", "padding", "product"), CASES)
def test_values_and_gradients_equal_xla(side, window, stride, padding, product):
    settings = {"strides": stride, "padding": padding, "bias_init": nn.initializers.normal()}
    ours, theirs = Conv(5, window, **settings), nn.Conv(5, window, **settings)
    maps = jax.random.normal(jax.random.key(0), (2, *side, 4))
    variables = theirs.init(jax.random.key(1), maps)
    assert is_product(ours, variables, maps) == product

    def value_and_gradients(conv, variables, maps):
        loss = lambda variables, maps: (conv.apply(variables, maps) ** 2).sum()  # noqa: E731
        return conv.apply(variables, maps), jax.grad(loss, argnums=(0, 1))(variables, maps)

    actual, expected = (jax.jit(functools.partial(value_and_gradients, conv))(variables, maps)
                       for conv in (ours, theirs))  # fmt: skip
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(compare, actual, expected)


def test_exported_networks_use_xla_convolutions():
    conv, maps = Conv(5, (3, 3), padding=1), jnp.zeros((2, 2, 2, 4))
    with cpu_ops.disabled():
        assert not is_product(conv, conv.init(jax.random.key(0), maps), maps)
