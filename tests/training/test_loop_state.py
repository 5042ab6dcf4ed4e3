"""Tests of early stopping and the metric window, also after a JSON round trip."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest

from fer_jax.training.early_stopping import EarlyStopping
from fer_jax.training.loop_state import LoopState, MetricWindow, NotFiniteError
from fer_jax.training.metrics import TrainMetrics

# accuracies of the validations, patience, best step, validation at which training stops
STOPS = [
    ([0.1, 0.2, 0.3], 1, 3, None),
    ([0.3, 0.2, 0.3, 0.4], 2, 1, 3),  # an equal accuracy is no improvement
    ([0.3, 0.2, 0.4, 0.1, 0.1], 2, 3, 5),
    ([0.3, 0.2, 0.1], 0, 1, None),  # zero never stops
    ([0.0, 0.0], 1, 1, 2),  # an accuracy of zero is the best at first
]


@pytest.mark.parametrize(("accuracies", "patience", "best_step", "stops"), STOPS)
@pytest.mark.parametrize("stored", [False, True])
def test_early_stopping(accuracies, patience, best_step, stops, stored):
    memory = LoopState(EarlyStopping(patience), MetricWindow(classes=2))
    stopped = None
    for step, accuracy in enumerate(accuracies, 1):
        memory.stopping = memory.stopping.after({"accuracy": accuracy}, step)
        if stored:
            memory = LoopState.from_json(json.loads(json.dumps(memory.to_json())), classes=2)
        if memory.stopping.should_stop:
            stopped = step
            break
    assert memory.stopping.best_step == best_step
    assert stopped == stops


def chunk_metrics(*steps, loss=0.3, gradient_norm=2.0):
    """Returns the metrics of a chunk; each step has labels and predictions."""
    found = []
    for index, (labels, predicted) in enumerate(steps):
        found.append(
            TrainMetrics.single_from_model_output(
                logits=jnp.eye(2)[jnp.array(predicted)],
                labels=jnp.array(labels),
                losses=jnp.full(len(labels), loss),
                mask=jnp.ones(len(labels)),
                gradient_norm=jnp.float32(gradient_norm + index),
                parameter_norm=jnp.float32(5.0),
            )
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


FIRST, SECOND = ([0, 0, 1], [0, 1, 1]), ([0], [0])


@pytest.mark.parametrize("stored_after", [None, 1, 2])
@pytest.mark.parametrize("chunks", [[[FIRST], [SECOND]], [[FIRST, SECOND]]])
def test_the_window_averages_its_steps_and_restarts_empty(chunks, stored_after):
    window, step = MetricWindow(classes=2), 0
    for number, chunk in enumerate(chunks, 1):
        window.add(step, chunk_metrics(*chunk))
        step += len(chunk)
        if number == stored_after:
            window = MetricWindow(2, json.loads(json.dumps(window.to_json())))
    window.fetch()
    means = window.close()
    assert means["accuracy"] == 3 / 4
    assert means["balanced_accuracy"] == (2 / 3 + 1) / 2
    assert means["loss"] == pytest.approx(0.3)
    assert window.means == {}
    window.add(step, chunk_metrics(([1], [0])))
    window.fetch()
    assert window.close()["accuracy"] == 0


def test_norms_are_of_the_last_step():
    window = MetricWindow(classes=2)
    window.add(0, chunk_metrics(FIRST, SECOND))
    window.fetch()
    means = window.close()
    assert (means["gradient_norm"], means["parameter_norm"]) == (3.0, 5.0)


def test_a_chunk_is_fetched_when_the_next_is_added():
    window = MetricWindow(classes=2)
    window.add(0, chunk_metrics(FIRST))
    assert window.means == {}
    window.add(1, chunk_metrics(SECOND))
    assert window.means["accuracy"] == 2 / 3


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"loss": float("nan")}, "the loss is nan"),
        ({"gradient_norm": float("inf")}, "the norm of the gradient is inf"),
    ],
)
@pytest.mark.parametrize("looks", ["add", "fetch", "to_json"])
def test_values_that_are_not_finite_are_detected_before_they_are_stored(changes, found, looks):
    window = MetricWindow(classes=2)
    window.add(7, chunk_metrics(FIRST, SECOND, **changes))
    arguments = (9, chunk_metrics(FIRST)) if looks == "add" else ()
    with pytest.raises(NotFiniteError, match=f"{found} at step 8") as caught:
        getattr(window, looks)(*arguments)
    assert caught.value.step == 7  # the sampler counts from 0


def test_the_step_within_a_chunk_is_reported():
    good, bad = chunk_metrics(FIRST), chunk_metrics(SECOND, loss=float("inf"))
    window = MetricWindow(classes=2)
    window.add(20, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), good, bad))
    with pytest.raises(NotFiniteError, match="the loss is inf at step 22"):
        window.fetch()
