"""Durations: units, what plain numbers mean, and what they become in steps."""

from __future__ import annotations

import pytest

from fer_jax.config import defaults
from fer_jax.durations import (
    EPOCHS,
    STEPS,
    Clock,
    Duration,
    parse,
)
from fer_jax.errors import UserError
from fer_jax.training import schedule as learning

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


def pace(epoch_steps=35, **fields):
    config = defaults()
    for name, value in fields.items():
        config.train[name] = value
    return learning.make_pace(config, epoch_steps)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"total_steps": 1050, "eval_steps": 35, "log_steps": 20, "patience": 10}),
        ({"epochs": "500st", "eval_epochs": "10%"}, {"total_steps": 500, "eval_steps": 50}),
        ({"head_epochs": "10%"}, {"head_steps": 105}),
        ({"patience": "5ep", "eval_epochs": 2}, {"patience": 3}),
        ({"patience": "175st"}, {"patience": 5}),
        ({"patience": 0}, {"patience": 0}),
        ({"log_steps": "1ep"}, {"log_steps": 35}),
    ],
)
def test_the_pace_of_a_run(fields, expected):
    found = pace(**fields)
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
def test_a_pace_that_cannot_be(fields, message):
    with pytest.raises(UserError, match=message):
        pace(**fields)


def test_before_the_data_only_what_is_certain_is_refused():
    assert pace(None, epochs="2000st", head_epochs=3)
    with pytest.raises(UserError, match="head_epochs"):
        pace(None, epochs=3, head_epochs=3)


def stages_of(**optim):
    config = defaults()
    config.train.epochs = 40
    for name, value in optim.items():
        config.optim[name] = value
    return learning.make_stages(config, None, 35)


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
