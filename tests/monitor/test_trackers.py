"""Trackers: a missing package, and one that fails in the middle. cli/test_trackers.py runs them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from fer_jax import config
from fer_jax.errors import UserError
from fer_jax.monitor import trackers
from fer_jax.settings import TRACKERS


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_names_the_extra(name, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"pip install 'fer-jax\[{name}\]'"):
        trackers.open_trackers([name], tmp_path, "demo", {})


def test_an_unknown_tracker_is_refused():
    with pytest.raises(UserError, match="one of wandb, mlflow for trackers, found 'comet'"):
        config.load_settings("demo", ["trackers=wandb,comet"])


class Failing:
    calls = 0

    def write_scalars(self, step, scalars):
        self.calls += 1
        raise ConnectionError("no route")

    def close(self):
        self.calls += 1


def test_training_goes_on_without_a_tracker_that_fails(capsys):
    failing = Failing()
    writer = trackers.Tracker("mlflow", failing)
    writer.write_images(0, {"misclassified": np.zeros((8, 8, 3), np.uint8)})  # is not sent
    for step in (1, 2):
        writer.write_scalars(step, {"loss": 1.0})
    writer.close()
    assert failing.calls == 1
    assert capsys.readouterr().err.count("mlflow failed, and the run goes on without it: no") == 1


def test_a_tracker_that_cannot_be_opened_is_one_message(monkeypatch, tmp_path):
    def refuse(*_):
        raise RuntimeError("not logged in")

    monkeypatch.setattr(trackers, "check_installed", lambda _: None)
    monkeypatch.setitem(trackers._WRITERS, "wandb", refuse)
    with pytest.raises(UserError, match="wandb to open the run demo, found RuntimeError: not log"):
        trackers.open_trackers(["wandb"], tmp_path, "demo", {})
