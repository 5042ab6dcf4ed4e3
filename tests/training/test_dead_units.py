"""The share of hidden units that are zero for every image."""

from __future__ import annotations

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fer_jax import config as configuration
from fer_jax.data.preprocess import Preprocessing
from fer_jax.faces.decode import decode
from fer_jax.models.registry import create_model
from fer_jax.training.build import make_model
from fer_jax.training.dead_units import share_of_dead_units
from fer_jax.training.optim import make_optimizer
from fer_jax.training.state import create_state
from tfds_builders.synthetic_faces import fixture

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


@pytest.mark.slow
def test_the_rate_of_the_kdef_config_kills_few_units():
    # Without warm-up, at the peak rate: the default 1e-3 kills most units in the first steps.
    settings = configuration.load_settings("kdef")
    model = make_model(settings, classes=7)
    rate = optax.constant_schedule(settings.optim.learning_rate)
    optimizer = make_optimizer(settings.optim, rate)
    state = create_state(model, optimizer, settings.data.size, seed=0)
    records = list(fixture.read("validation"))[:56]
    sides = (settings.data.size, settings.data.size)
    images = np.stack([cv2.resize(decode(record.jpeg), sides) for record in records])
    images = Preprocessing(settings.data.size, "standardize").normalized(jnp.asarray(images))
    names = sorted({record.truth["expression"] for record in records})
    labels = np.array([names.index(record.truth["expression"]) for record in records])

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, memory, images, labels):
        def loss(params):
            logits = model.apply({"params": params}, images, train=False)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, memory = optimizer.update(jax.grad(loss)(params), memory, params)
        return optax.apply_updates(params, updates), memory

    params, memory = state.params, state.opt_state
    before = share_of_dead_units(model, {"params": params}, images[::7])
    for first in range(0, 40, 8):
        rows = slice(first, first + 8)
        params, memory = step(params, memory, images[rows], labels[rows])
    after = share_of_dead_units(model, {"params": params}, images[::7])
    assert after < before + 0.1
