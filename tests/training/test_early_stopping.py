"""Tests of the monitored metric and of the plateau schedule."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn import metrics as oracle

from fer_jax.settings import MONITORS
from fer_jax.training.early_stopping import EarlyStopping, Plateau
from fer_jax.training.loop_state import LoopState, MetricWindow
from fer_jax.training.metrics import scalars


@pytest.mark.parametrize("monitor", MONITORS)
def test_metrics_improve_in_their_direction(monitor):
    stopping = EarlyStopping(2, monitor)
    for step, found in enumerate([0.5, 0.7, 0.3], 1):
        stopping = stopping.after(dict.fromkeys(MONITORS, found), step)
    assert stopping.best == (0.3 if monitor == "loss" else 0.7)
    assert stopping.best_step == (3 if monitor == "loss" else 2)
    assert stopping.waited == (0 if monitor == "loss" else 1)


def test_only_the_monitored_metric_counts():
    stopping = EarlyStopping(1, "macro_f1").after({"macro_f1": 0.5, "accuracy": 0.1}, 1)
    stopping = stopping.after({"macro_f1": 0.4, "accuracy": 0.9}, 2)
    assert stopping.best_step == 1
    assert stopping.should_stop


def test_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 80), rng.integers(0, 5, 80)
    confusion = np.zeros((5, 5), int)
    np.add.at(confusion, (labels, predicted), 1)
    means = scalars(confusion, 8.0)
    present = sorted(set(labels))
    assert means["balanced_accuracy"] == pytest.approx(
        oracle.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
    )
    assert means["macro_f1"] == pytest.approx(
        oracle.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    )


# Whether each validation was the best, and the learning-rate scale after it.
FALLS = [
    ([1, 0, 0, 0, 0], 2, [1, 1, 0.5, 0.5, 0.25]),
    ([1, 0, 1, 0, 0], 2, [1, 1, 1, 1, 0.5]),
    ([1, 0, 0, 1, 0], 1, [1, 0.5, 0.25, 0.25, 0.125]),
]


@pytest.mark.parametrize(("best", "patience", "scales"), FALLS)
@pytest.mark.parametrize("stored", [False, True])
def test_the_plateau_lowers_the_rate_and_is_stored(best, patience, scales, stored):
    memory = LoopState(EarlyStopping(0), MetricWindow(2), Plateau(patience, 0.5))
    found = []
    for is_best in best:
        memory.plateau = memory.plateau.after(bool(is_best))
        found.append(memory.plateau.scale)
        if stored:
            memory = LoopState.from_json(json.loads(json.dumps(memory.to_json())), classes=2)
    assert found == scales


def test_the_loop_state_of_another_schedule_has_no_plateau():
    stored = LoopState(EarlyStopping(0), MetricWindow(2)).to_json()
    assert LoopState.from_json(stored, 2).plateau is None
    assert dataclasses.asdict(EarlyStopping(3))["monitor"] == "accuracy"
