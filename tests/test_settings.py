"""Settings: every field of the defaults, out-of-range values, the way to JSON and back."""

from __future__ import annotations

import json

import pytest

from fer_jax import config as configuration
from fer_jax.data.sampling import POWERS
from fer_jax.errors import UserError
from fer_jax.models.layers.pool import GLOBAL_POOLINGS
from fer_jax.settings import BALANCES, POOLINGS, TTA_VIEWS, Augmentation, Settings
from fer_jax.training.tta import VIEWS


def test_the_way_to_json_and_back():
    settings = configuration.load_settings(
        "demo", ["model.head_widths=8,16", "model.widths=4,4", "data.crop.margin=1"]
    )
    stored = json.loads(json.dumps(settings.to_dict()))
    assert configuration.from_stored(stored) == settings
    assert stored == json.loads(json.dumps(_config_of("demo", settings)))


def _config_of(name: str, settings: Settings) -> dict:
    config = configuration.load(name).to_dict()
    config["model"]["head_widths"] = settings.model.head_widths
    config["model"]["widths"] = settings.model.widths
    config["data"]["crop"]["margin"] = settings.data.crop.margin
    return config


def test_a_field_that_is_newer_than_the_file_gets_its_default():
    stored = configuration.load("demo").to_dict()
    del stored["optim"]["sam_rho"], stored["data"]["crop"], stored["model"]["widths"]
    assert configuration.from_stored(stored) == configuration.load_settings("demo")


def test_the_defaults_of_augmentation_are_those_of_the_config():
    assert Augmentation(**configuration.defaults().augment.to_dict()) == Augmentation()


@pytest.mark.parametrize(
    ("names", "known"),
    [(BALANCES, POWERS), (POOLINGS, GLOBAL_POOLINGS), (TTA_VIEWS, VIEWS)],
)
def test_every_name_has_its_meaning(names, known):
    assert sorted(names) == sorted(known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim.schedule": "linear"}, "optim.schedule, found 'linear'"),
        (
            {"optim.name": "adam", "optim.weight_decay": 0.1},
            "optim.weight_decay needs optim.name=adamw",
        ),
        ({"optim.weight_decay": -0.1}, "optim.weight_decay of at least 0"),
        ({"optim.clip_norm": -1.0}, "optim.clip_norm of at least 0"),
        ({"optim.momentum": 1.0}, r"optim.momentum in \[0, 1\)"),
        ({"optim.learning_rate": 0.0}, "optim.learning_rate above 0"),
        ({"optim.finetune_rate": 0.0}, "optim.finetune_rate above 0"),
        ({"optim.decay_factor": 1.0}, "optim.decay_factor between 0 and 1"),
        ({"data.store": "disk"}, "data.store, found 'disk'"),
        ({"data.targets": "vote"}, "majority, votes for data.targets, found 'vote'"),
        ({"train.steps_per_dispatch": 0}, "steps_per_dispatch of at least 1, found 0"),
        ({"train.keep": 1}, "train.keep of at least 2"),
        ({"model.dropout": 1.5}, r"model.dropout in \[0, 1\], found 1.5"),
    ],
)
def test_wrong_values_are_explained(changes, message):
    overrides = [f"{field}={value}" for field, value in changes.items()]
    with pytest.raises(UserError, match=message):
        configuration.load_settings("demo", overrides)
