"""Tests of schedules against closed forms, and of the first updates of optimizers."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax.errors import UserError
from fer_jax.settings import WITHOUT_WEIGHT_DECAY, Settings
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.optim import DIRECTIONS, make_optimizer, make_schedule
from fer_jax.training.state import TrainState

RATE = 0.1


def settings_of(**changes) -> Settings:
    """Returns settings of SGD with a constant rate, with changes."""
    plain = {"name": "sgd", "learning_rate": RATE, "momentum": 0.0, "schedule": "constant",
             "warmup": "0st", "decay_every": "30st"}  # fmt: skip
    overrides = [f"optim.{field}={value}" for field, value in {**plain, **changes}.items()]
    return configuration.load_settings("demo", overrides)


STEPS = 100


def cosine(step: int) -> float:
    share = 0.5 * (1 + math.cos(math.pi * min(step / STEPS, 1)))
    return 0.1 * (0.99 * share + 0.01)


FORMS = {
    "cosine": cosine,
    "constant": lambda step: 0.1,
    "plateau": lambda step: 0.1,  # validation scales it
    "step": lambda step: 0.1 * 0.1 ** (step // 30),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("warmup", [0, 10])
def test_schedules(name, warmup):
    settings = settings_of(schedule=name, warmup=f"{warmup}st")
    schedule = make_schedule(settings, RATE, STEPS + warmup, epoch_steps=1)
    for step in (0, 1, 29, 30, 31, 60, 99):
        assert float(schedule(step + warmup)) == pytest.approx(FORMS[name](step), rel=1e-5)
    if warmup:
        rising = [float(schedule(step)) for step in range(warmup)]
        # From a tenth in the first step to the full rate in the step after the warm-up.
        np.testing.assert_allclose(rising, np.linspace(0.01, 0.1, 11)[:-1], rtol=1e-5)


PARAMS = {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.array([2.0])}
GRADIENT = {"kernel": jnp.array([[0.3, -0.4]]), "bias": jnp.array([1.2])}


def first_update(**changes):
    settings = settings_of(**changes)
    optimizer = make_optimizer(settings.optim, make_schedule(settings, RATE, STEPS, 1))
    updates, _ = optimizer.update(GRADIENT, optimizer.init(PARAMS), PARAMS)
    return {name: np.asarray(leaf).ravel() for name, leaf in updates.items()}


# Settings, and the updates of kernel and bias, computed by hand.
UPDATES = [
    ({}, [-0.03, 0.04], -0.12),
    ({"momentum": 0.9}, [-0.057, 0.076], -0.228),  # Nesterov: 1.9 times the first gradient
    ({"weight_decay": 0.5}, [-0.18, 0.24], -0.12),  # adds 0.1 * 0.5 * kernel; not for biases
    ({"clip_norm": 0.13}, [-0.003, 0.004], -0.012),  # the gradient's norm is 1.3
    ({"clip_norm": 5.0}, [-0.03, 0.04], -0.12),
    ({"name": "adam"}, [-0.1, 0.1], -0.1),  # the sign of the gradient, in the first step
    ({"name": "adamw", "weight_decay": 0.5}, [-0.25, 0.3], -0.1),
    ({"name": "lion"}, [-0.1, 0.1], -0.1),
    # The sign of the gradient, scaled to the norm of the parameters: 5 / sqrt(2) and 2.
    ({"name": "lamb"}, [-0.1 * 5 / 2**0.5, 0.1 * 5 / 2**0.5], -0.2),
]


@pytest.mark.parametrize(("changes", "kernel", "bias"), UPDATES)
def test_first_update(changes, kernel, bias):
    update = first_update(**changes)
    np.testing.assert_allclose(update["kernel"], kernel, rtol=1e-4)
    np.testing.assert_allclose(update["bias"], [bias], rtol=1e-4)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_the_state_of_every_optimizer_survives_a_checkpoint(tmp_path, name):
    # Clipping and decay have no arrays, which leaves gaps in the indices of the chain.
    decay = 0.0 if name == WITHOUT_WEIGHT_DECAY else 0.1
    settings = settings_of(name=name, weight_decay=decay, clip_norm=1.0)
    optimizer = make_optimizer(settings.optim, make_schedule(settings, RATE, STEPS, 1))
    _, opt_state = optimizer.update(GRADIENT, optimizer.init(PARAMS), PARAMS)
    state = TrainState(jnp.int32(1), PARAMS, {}, opt_state)
    template = dataclasses.replace(state, opt_state=optimizer.init(PARAMS))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {"stopping": {"best_step": 1}})
        checkpoints.wait()
        restored = checkpoints.restore_latest(lambda _: template)
    jax.tree.map(np.testing.assert_array_equal, restored.state.opt_state, opt_state)


def test_an_unknown_optimizer_names_the_closest():
    with pytest.raises(UserError, match=r"adam, .* for optim\.name, found 'adagrad'"):
        make_optimizer(settings_of(name="adagrad").optim, lambda _: 1.0)
