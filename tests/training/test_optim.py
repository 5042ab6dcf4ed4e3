"""Schedules against their closed forms, optimizers against their first step, wrong settings."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.optim import (
    DECAYING,
    DIRECTIONS,
    OptimSettings,
    make_optimizer,
    make_schedule,
)
from fer_jax.training.state import TrainState

PLAIN = OptimSettings(
    name="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0, clip_norm=0.0,
    schedule="constant", warmup_steps=0, decay_steps=30, decay_factor=0.1,
)  # fmt: skip
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
    settings = dataclasses.replace(PLAIN, schedule=name, warmup_steps=warmup)
    schedule = make_schedule(settings, STEPS + warmup)
    for step in (0, 1, 29, 30, 31, 60, 99):
        assert float(schedule(step + warmup)) == pytest.approx(FORMS[name](step), rel=1e-5)
    if warmup:
        rising = [float(schedule(step)) for step in range(warmup)]
        # From a tenth in the first step to the whole in the step after the warm-up.
        np.testing.assert_allclose(rising, np.linspace(0.01, 0.1, 11)[:-1], rtol=1e-5)


PARAMS = {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.array([2.0])}
GRADIENT = {"kernel": jnp.array([[0.3, -0.4]]), "bias": jnp.array([1.2])}


def first_update(**changes):
    settings = dataclasses.replace(PLAIN, **changes)
    optimizer = make_optimizer(settings, make_schedule(settings, STEPS))
    updates, _ = optimizer.update(GRADIENT, optimizer.init(PARAMS), PARAMS)
    return {name: np.asarray(leaf).ravel() for name, leaf in updates.items()}


# Of each: the update of the kernel and of the bias, by hand.
UPDATES = [
    ({}, [-0.03, 0.04], -0.12),
    ({"momentum": 0.9}, [-0.057, 0.076], -0.228),  # Nesterov: 1.9 times the first gradient
    ({"weight_decay": 0.5}, [-0.18, 0.24], -0.12),  # 0.1 * 0.5 * kernel on top, no bias
    ({"clip_norm": 0.13}, [-0.003, 0.004], -0.012),  # the gradient's norm is 1.3
    ({"clip_norm": 5.0}, [-0.03, 0.04], -0.12),
    ({"name": "adam"}, [-0.1, 0.1], -0.1),  # the sign, in its first step
    ({"name": "adamw", "weight_decay": 0.5}, [-0.25, 0.3], -0.1),
    ({"name": "lion"}, [-0.1, 0.1], -0.1),
    # The sign, scaled to the norm of the parameters: 5 / sqrt(2) and 2.
    ({"name": "lamb"}, [-0.1 * 5 / 2**0.5, 0.1 * 5 / 2**0.5], -0.2),
]


@pytest.mark.parametrize(("changes", "kernel", "bias"), UPDATES)
def test_first_update(changes, kernel, bias):
    update = first_update(**changes)
    np.testing.assert_allclose(update["kernel"], kernel, rtol=1e-4)
    np.testing.assert_allclose(update["bias"], [bias], rtol=1e-4)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_the_memory_of_every_optimizer_survives_a_checkpoint(tmp_path, name):
    # Clipping and decay have no arrays, which leaves gaps in the chain's numbering.
    decay = 0.1 if name in DECAYING else 0.0
    settings = dataclasses.replace(PLAIN, name=name, weight_decay=decay, clip_norm=1.0)
    optimizer = make_optimizer(settings, make_schedule(settings, STEPS))
    _, memory = optimizer.update(GRADIENT, optimizer.init(PARAMS), PARAMS)
    state = TrainState(jnp.int32(1), PARAMS, {}, memory)
    template = dataclasses.replace(state, opt_state=optimizer.init(PARAMS))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {"stopping": {"best_step": 1}})
        checkpoints.wait()
        restored = checkpoints.restore_latest(lambda _: template)
    jax.tree.map(np.testing.assert_array_equal, restored.state.opt_state, memory)


WRONG = [
    ({"name": "adagrad"}, "optim.name, found 'adagrad'"),
    ({"schedule": "linear"}, "optim.schedule, found 'linear'"),
    ({"name": "adam", "weight_decay": 0.1}, "optim.weight_decay needs optim.name=adamw"),
    ({"weight_decay": -0.1}, "optim.weight_decay of at least 0"),
    ({"clip_norm": -1.0}, "optim.clip_norm of at least 0"),
    ({"momentum": 1.0}, r"optim.momentum in \[0, 1\)"),
    ({"learning_rate": 0.0}, "optim.learning_rate above 0"),
    ({"decay_factor": 1.0}, "optim.decay_factor between 0 and 1"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_wrong_settings_are_explained(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(PLAIN, **changes)
