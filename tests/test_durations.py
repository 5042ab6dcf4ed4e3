"""Durations: units, what plain numbers mean, and what they become in steps."""

from __future__ import annotations

import pytest

from fer_jax import config as configuration
from fer_jax.durations import (
    EPOCHS,
    STEPS,
    Clock,
    Duration,
    parse,
)
from fer_jax.errors import UserError
from fer_jax.training.stages import make_stages
from fer_jax.training.step_counts import count_steps

CLOCK = Clock(batch_size=64, epoch_steps=35, total_steps=1400)


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (30, 1050), (0.5, 18), ("30ep", 1050), ("2000st", 2000), ("50000ex", 781), ("5%", 70),
        ("2.5 EP", 88), ("0.01%", 1), (0, 0), ("0st", 0),
    ],
)  # fmt: skip
def test_durations_in_steps(value, steps):
    assert CLOCK.steps(parse("train.epochs", value, EPOCHS)) == steps


@pytest.mark.parametrize("value", ["many", "-3", "5 weeks", "ep", "", True, None, -1])
def test_wrong_durations_are_explained(value):
    with pytest.raises(UserError, match=r"a number of at least 0 for train.epochs"):
        parse("train.epochs", value, EPOCHS)


def test_a_unit_that_makes_no_sense_is_refused():
    assert parse("x", "3st", EPOCHS, (EPOCHS, STEPS)) == Duration(3, STEPS)
    with pytest.raises(UserError, match="found '3%'"):
        parse("x", "3%", EPOCHS, (EPOCHS, STEPS))


def settings_of(section, **fields):
    fields = {"train": {"epochs": 30}, "optim": {}}[section] | fields
    plain = ["train.epochs=40", "train.patience=10", "train.eval_epochs=1", "train.log_steps=20",
             "optim.schedule=cosine", "optim.learning_rate=1e-3", "optim.warmup=0.05"]  # fmt: skip
    overrides = [f"{section}.{name}={value}" for name, value in fields.items()]
    return configuration.load_settings("demo", [*plain, *overrides])


def counts(**fields):
    return count_steps(settings_of("train", **fields), 35)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"total": 1050, "eval": 35, "log": 20, "patience": 10}),
        ({"epochs": "500st", "eval_epochs": "10%"}, {"total": 500, "eval": 50}),
        ({"head_epochs": "10%"}, {"head": 105}),
        ({"patience": "5ep", "eval_epochs": 2}, {"patience": 3}),
        ({"patience": "175st"}, {"patience": 5}),
        ({"patience": 0}, {"patience": 0}),
        ({"log_steps": "1ep"}, {"log": 35}),
    ],
)
def test_step_counts_of_a_run(fields, expected):
    found = counts(**fields)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "train.epochs above 0"),
        ({"epochs": "10%"}, "train.epochs"),
        ({"eval_epochs": 0}, "train.eval_epochs above 0"),
        ({"head_epochs": 30}, "train.head_epochs below train.epochs=30"),
        ({"head_epochs": "2000st"}, "train.head_epochs below train.epochs=30"),
        ({"head_epochs": "100%"}, "train.head_epochs below"),
    ],
)
def test_wrong_durations_of_a_run(fields, message):
    with pytest.raises(UserError, match=message):
        counts(**fields)


def test_before_the_data_only_what_is_certain_is_refused():
    assert settings_of("train", epochs="2000st", head_epochs=3)
    with pytest.raises(UserError, match="head_epochs"):
        settings_of("train", epochs=3, head_epochs=3)


def stages_of(**optim):
    return make_stages(settings_of("optim", **optim), None, 35)


@pytest.mark.parametrize("warmup", [0.05, "5%", "2ep", "70st", "4480ex"])
def test_warm_up_in_every_unit(warmup):
    rate = stages_of(warmup=warmup)[0].schedule
    assert float(rate(70)) == pytest.approx(1e-3)
    assert float(rate(35)) == pytest.approx((1e-3 + 1e-3 / 70) / 2)


def test_the_step_schedule_counts_epochs():
    rate = stages_of(schedule="step", decay_every=10, warmup=0)[0].schedule
    assert float(rate(349)) == pytest.approx(1e-3)
    assert float(rate(350)) == pytest.approx(1e-4)


def test_a_warm_up_as_long_as_the_run_is_refused():
    with pytest.raises(UserError, match=r"optim\.warmup to be a share"):
        stages_of(warmup=1.0)
