"""Early stopping and the metric window, and that both survive being stored."""

from __future__ import annotations

import json

import jax.numpy as jnp
import pytest

from fer_jax.engine.memory import Memory, MetricWindow
from fer_jax.engine.metrics import StepMetrics
from fer_jax.engine.stopping import EarlyStopping

# accuracies of the validations, patience, step of the best, validation after which it stops
STOPS = [
    ([0.1, 0.2, 0.3], 1, 3, None),
    ([0.3, 0.2, 0.3, 0.4], 2, 1, 3),  # an equal accuracy is not a better one
    ([0.3, 0.2, 0.4, 0.1, 0.1], 2, 3, 5),
    ([0.3, 0.2, 0.1], 0, 1, None),  # zero never stops
    ([0.0, 0.0], 1, 1, 2),  # an accuracy of zero is a first best
]


@pytest.mark.parametrize(("accuracies", "patience", "best_step", "stops"), STOPS)
@pytest.mark.parametrize("stored", [False, True])
def test_early_stopping(accuracies, patience, best_step, stops, stored):
    memory = Memory(EarlyStopping(patience), MetricWindow(classes=2))
    stopped = None
    for step, accuracy in enumerate(accuracies, 1):
        memory.stopping = memory.stopping.after({"accuracy": accuracy}, step)
        if stored:
            memory = Memory.from_json(json.loads(json.dumps(memory.to_json())), classes=2)
        if memory.stopping.should_stop:
            stopped = step
            break
    assert memory.stopping.best_step == best_step
    assert stopped == stops


def step_metrics(labels, predicted):
    logits = jnp.eye(2)[jnp.array(predicted)]
    labels = jnp.array(labels)
    return StepMetrics.single_from_model_output(
        logits=logits, labels=labels, losses=jnp.full(len(labels), 0.3), mask=jnp.ones(len(labels))
    )


@pytest.mark.parametrize("stored_after", [None, 1, 2])
def test_the_window_means_over_its_steps_and_begins_anew(stored_after):
    window = MetricWindow(classes=2)
    for number, (labels, predicted) in enumerate([([0, 0, 1], [0, 1, 1]), ([0], [0])], 1):
        window.add(step_metrics(labels, predicted))
        if number == stored_after:
            window = MetricWindow(2, json.loads(json.dumps(window.to_json())))
    means = window.close()
    assert means["accuracy"] == 3 / 4
    assert means["balanced_accuracy"] == (2 / 3 + 1) / 2
    assert means["loss"] == pytest.approx(0.3)
    window.add(step_metrics([1], [0]))
    assert window.close()["accuracy"] == 0
