"""Tests of the training and evaluation steps: exact counts, reproducibility, devices."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records
from fer_jax.models.registry import create_model
from fer_jax.runtime import sharding
from fer_jax.settings import Augmentation
from fer_jax.training import losses
from fer_jax.training.evaluation import evaluate_records, make_eval_function
from fer_jax.training.metrics import scalars
from fer_jax.training.recipe import Recipe
from fer_jax.training.state import create_state
from fer_jax.training.step import make_step_function, make_train_step

SIZE, CLASSES, BATCH, STEPS = 12, 3, 8, 5
PREPROCESSING = Preprocessing(SIZE, "standardize")


def mesh_of(devices: int) -> Mesh:
    return sharding.data_mesh(devices=jax.devices()[:devices])


def faces(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return Records(
        images=rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8),
        labels=rng.integers(0, CLASSES, count).astype(np.int32),
        ids=tuple(f"r{i}" for i in range(count)),
        groups=("",) * count,
        label_names=("a", "b", "c"),
        digest="",
    )


def run(devices: int, seed: int = 0, smoothing: float = 0.1):
    """Returns the losses of a few steps, and the final state."""
    mesh, model, optimizer = mesh_of(devices), create_model("light_vgg", CLASSES), optax.adam(1e-3)
    recipe = Recipe(label_smoothing=smoothing)
    function = make_step_function(model, optimizer, PREPROCESSING, Augmentation(), recipe, seed)
    step = make_train_step(function, mesh)
    state = sharding.replicate(create_state(model, optimizer, SIZE, seed), mesh)
    records, found = faces(BATCH), []
    batch = sharding.put_batch({"image": records.images, "label": records.labels}, mesh)
    for _ in range(STEPS):
        state, metrics = step(state, batch)
        found.append(metrics.compute()["loss"])
    return found, jax.device_get(state)


def test_a_seed_is_reproducible_to_the_bit_and_another_differs():
    (first, state), (again, same), (other, _) = run(1), run(1), run(1, seed=1)
    assert first == again
    jax.tree.map(np.testing.assert_array_equal, state, same)
    assert first != other


def test_two_devices_give_the_same_losses_as_one():
    one, two = run(1)[0], run(2)[0]
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert len(set(one)) == STEPS  # steps differ by dropout and augmentation


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_smoothed_cross_entropy(smoothing):
    logits = np.random.default_rng(0).normal(size=(4, CLASSES)).astype(np.float32)
    labels = np.array([0, 2, 1, 1], np.int32)
    targets = np.eye(CLASSES)[labels] * (1 - smoothing) + smoothing / CLASSES
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(targets * log_softmax).sum(1)
    np.testing.assert_allclose(
        losses.image_losses(logits, np.eye(CLASSES)[labels], Recipe(label_smoothing=smoothing)),
        expected,
        rtol=1e-5,
    )


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(("count", "batch_size"), [(5, 2), (5, 8), (6, 6), (1, 4)])
def test_evaluation_counts_every_record_once(devices, count, batch_size):
    mesh, model = mesh_of(devices), create_model("light_vgg", CLASSES)
    records = faces(count, seed=1)
    variables = create_state(model, optax.adam(1e-3), SIZE, 0).variables
    evaluation = evaluate_records(
        make_eval_function(model, PREPROCESSING), sharding.replicate(variables, mesh),
        records, batch_size, mesh,
    )  # fmt: skip
    logits = model.apply(variables, PREPROCESSING.normalized(records.images), train=False)
    log_softmax = np.asarray(jax.nn.log_softmax(logits))
    predicted = log_softmax.argmax(1)
    expected = np.zeros((CLASSES, CLASSES), int)
    np.add.at(expected, (records.labels, predicted), 1)
    np.testing.assert_array_equal(evaluation.confusion, expected)
    np.testing.assert_allclose(evaluation.probabilities, np.exp(log_softmax), atol=1e-6)
    loss = -log_softmax[np.arange(count), records.labels].sum()
    np.testing.assert_allclose(evaluation.loss_sum, loss, rtol=1e-5)


def test_absent_classes_are_excluded_from_means_over_classes():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    means = scalars(confusion, 16.0)
    assert means == {
        "loss": 2.0,
        "accuracy": 5 / 8,
        "balanced_accuracy": (0.75 + 0.5) / 2,
        "macro_f1": pytest.approx((6 / 9 + 4 / 6) / 2),
    }
