"""The share of hidden units that are zero for every image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from fer_jax.models.registry import create_model
from fer_jax.training.dead_units import share_of_dead_units

WIDTHS = (8, 24)


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (4, 8, 8, 3))


@pytest.fixture(scope="module")
def model():
    return create_model("light_vgg", 3, head_widths=WIDTHS, widths=(4,))


@pytest.fixture(scope="module")
def params(model, images):
    return jax.jit(lambda: model.init(jax.random.key(1), images, train=False)["params"])()


@pytest.mark.parametrize(("dead", "expected"), [((0, 0), 0), ((0, 24), 0.75), ((8, 24), 1)])
def test_units_with_a_very_negative_bias_are_dead(model, params, images, dead, expected):
    # The others have a large bias: a random unit may be zero for four images by itself.
    edited = dict(params)
    for name, width, count, alive in zip(("head1", "head2"), WIDTHS, dead, (1e2, 1e6), strict=True):
        bias = jnp.where(jnp.arange(width) < count, -1e9, alive)
        edited[name] = params[name] | {"bias": bias}
    assert share_of_dead_units(model, {"params": edited}, images) == expected


def test_a_network_without_hidden_dense_layers_has_none():
    model = create_model("light_vgg", 3, head_widths=(), widths=(4,))
    assert share_of_dead_units(model, {}, jnp.zeros((1, 8, 8, 3))) is None
