"""Tests of the recipe of a step: each option against its definition.

The network is small, with dropout and BatchNorm if a test requests them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fer_jax.data.augment import OFF
from fer_jax.data.preprocess import Preprocessing
from fer_jax.models.registry import create_model
from fer_jax.settings import Augmentation
from fer_jax.training import losses
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.recipe import PLAIN, Recipe
from fer_jax.training.state import create_state
from fer_jax.training.step import ema_decay, make_step_function

SIZE, CLASSES, BATCH = 6, 3, 8
OPTIMIZER = optax.sgd(0.1)
PIXELS = Preprocessing(SIZE, "standardize")


class Network(nn.Module):
    """A convolution and a dense layer."""

    dropout: float = 0.0
    norm: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(4, (3, 3), name="conv")(images)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="bn")(x)
        x = nn.relu(x).reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(CLASSES, name="out")(x)


def batch(seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    return {"image": jnp.array(images), "label": jnp.arange(BATCH, dtype=jnp.int32) % CLASSES}


@functools.cache
def compiled(recipe: Recipe, model: nn.Module, augmentation: Augmentation):
    return jax.jit(make_step_function(model, OPTIMIZER, PIXELS, augmentation, recipe, seed=0))


def run(
    recipe: Recipe, model: nn.Module | None = None, steps: int = 2, augmentation=OFF,
    votes: jax.Array | None = None, **changes: Any,
):  # fmt: skip
    """Returns the state after a few steps of gradient descent, and the last metrics."""
    model, optimizer = model or Network(), OPTIMIZER
    step = compiled(recipe, model, augmentation)
    state = create_state(model, optimizer, SIZE, 0, recipe)
    state = dataclasses.replace(state, **changes)
    for number in range(steps):
        label = {} if votes is None else {"label": votes}
        state, metrics = step(state, batch(number) | label)
    return jax.device_get(state), jax.device_get(metrics)


def close(one: Any, other: Any, **tolerance: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


def gradient(params: Any, recipe: Recipe = PLAIN, seed: int = 0, targets: Any = None) -> Any:
    """Returns the gradient of the batch's loss, computed directly."""
    data = batch(seed)
    targets = jax.nn.one_hot(data["label"], CLASSES) if targets is None else targets
    inputs = PIXELS.normalized(data["image"])

    def loss(params: Any) -> jax.Array:
        logits = Network().apply({"params": params}, inputs, train=True)
        return losses.image_losses(logits, targets, recipe).mean()

    return jax.grad(loss)(params)


def first_params() -> Any:
    return create_state(Network(), optax.sgd(0.1), SIZE, 0).params


# Steps draw random numbers for the whole batch, so dropout, augmentation and mixing agree too.
def test_accumulation_equals_one_large_batch():
    recipe = Recipe(label_smoothing=0.1, class_weights=(0.5, 1.5, 1.0))
    changes = dataclasses.replace(OFF, flip=0.5, noise=0.1, mixup=0.5)
    network = Network(dropout=0.5)
    whole, metrics = run(recipe, network, augmentation=changes)
    split, same = run(dataclasses.replace(recipe, accumulate=2), network, augmentation=changes)
    close(whole, split, rtol=1e-4, atol=1e-6)
    close(metrics, same, rtol=1e-4)


VOTES = jnp.asarray(np.random.default_rng(2).dirichlet(np.ones(CLASSES), BATCH), jnp.float32)


def test_votes_are_the_targets_of_the_loss():
    recipe = Recipe(0.1, focal_gamma=2.0, class_weights=(0.5, 1.5, 1.0), accumulate=2)
    state, metrics = run(recipe, steps=1, votes=VOTES)
    params = first_params()
    slope = gradient(params, recipe, targets=VOTES)
    close(state.params, jax.tree.map(lambda p, g: p - 0.1 * g, params, slope), rtol=1e-4, atol=1e-6)
    majority = np.bincount(VOTES.argmax(axis=1), minlength=CLASSES)
    np.testing.assert_array_equal(metrics.confusion.counts.sum(axis=1), majority)


def test_unanimous_votes_train_like_labels():
    recipe = Recipe(label_smoothing=0.1, class_weights=(0.5, 1.5, 1.0))
    changes = dataclasses.replace(OFF, mixup=0.5, cutmix=0.5)
    unanimous = jax.nn.one_hot(batch()["label"], CLASSES)
    by_label = run(recipe, augmentation=changes)
    close(by_label, run(recipe, augmentation=changes, votes=unanimous), rtol=1e-5, atol=1e-7)


def test_accumulation_updates_batch_norm_once_by_the_mean():
    whole, _ = run(PLAIN, Network(norm=True), steps=1)
    split, _ = run(Recipe(accumulate=2), Network(norm=True), steps=1)
    ours, mean = split.batch_stats["bn"], whole.batch_stats["bn"]["mean"]
    np.testing.assert_allclose(ours["mean"], mean, rtol=1e-5)
    # Without the variance between micro-batches.
    assert (ours["var"] <= whole.batch_stats["bn"]["var"] + 1e-6).all()
    assert (ours["var"] > 0.8 * whole.batch_stats["bn"]["var"]).all()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_sam_takes_the_gradient_where_the_loss_is_higher(accumulate):
    state, metrics = run(Recipe(sam_rho=0.3, accumulate=accumulate), steps=1)
    params = first_params()
    slope = gradient(params)
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(slope)))
    above = jax.tree.map(lambda value, g: value + 0.3 * g / norm, params, slope)
    expected = jax.tree.map(lambda value, g: value - 0.1 * g, params, gradient(above))
    close(state.params, expected, rtol=1e-4, atol=1e-6)
    plain, same = run(PLAIN, steps=1)
    close(metrics.loss, same.loss, rtol=1e-5)  # of the first pass
    assert not np.allclose(plain.params["conv"]["kernel"], state.params["conv"]["kernel"])


def test_sam_uses_the_statistics_of_its_first_pass():
    plain, _ = run(PLAIN, Network(norm=True), steps=1)
    sam, _ = run(Recipe(sam_rho=0.3), Network(norm=True), steps=1)
    close(plain.batch_stats, sam.batch_stats, rtol=1e-6)


def test_the_moving_average_follows_its_formula():
    recipe, mean = Recipe(ema_decay=0.9), None
    for steps in range(4):
        state, _ = run(recipe, Network(norm=True), steps=steps or 1)
        if not steps:
            mean = create_state(Network(norm=True), optax.sgd(0.1), SIZE, 0).variables
            continue
        decay = min(0.9, steps / (9 + steps))  # (1 + n) / (10 + n), n from 0
        mean = jax.tree.map(lambda a, v, d=decay: d * a + (1 - d) * v, mean, state.variables)
        close(state.ema, mean, rtol=1e-4, atol=1e-6)
    close(state.inference_variables, state.ema)
    assert float(ema_decay(jnp.int32(10_000), 0.9)) == pytest.approx(0.9)


def test_without_a_moving_average_inference_uses_the_variables():
    state, _ = run(PLAIN, steps=1)
    assert state.ema is None
    close(state.inference_variables, state.variables)


def test_the_state_scales_the_learning_rate():
    recipe = Recipe(scales_rate=True)
    whole, half = (
        run(recipe, steps=1, rate_scale=jnp.float32(scale))[0].params for scale in (1.0, 0.5)
    )
    start = first_params()
    close(
        jax.tree.map(lambda a, b: (a - b) / 2, whole, start),
        jax.tree.map(lambda a, b: a - b, half, start),
        atol=1e-6,
    )


def test_optional_arrays_survive_a_checkpoint(tmp_path):
    recipe = Recipe(ema_decay=0.9, scales_rate=True)
    state, _ = run(recipe, steps=1, rate_scale=jnp.float32(0.25))
    memory = {"stopping": {"best_step": 1}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(jax.device_put(state), memory)
        checkpoints.wait()
        template = create_state(Network(), optax.sgd(0.1), SIZE, 1, recipe)
        restored = checkpoints.restore_latest(lambda _: template)
    close(restored.state, state)
    assert float(restored.state.rate_scale) == 0.25


LOGITS = np.random.default_rng(0).normal(size=(BATCH, CLASSES)).astype(np.float32) * 2
TARGETS = np.random.default_rng(1).dirichlet(np.ones(CLASSES), BATCH).astype(np.float32)


def test_focal_loss_with_gamma_zero_is_cross_entropy():
    np.testing.assert_allclose(
        losses.focal(LOGITS, TARGETS, 0.0), losses.cross_entropy(LOGITS, TARGETS), rtol=1e-5
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss(gamma):
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    expected = -(TARGETS * (1 - p) ** gamma * np.log(p)).sum(1)
    np.testing.assert_allclose(losses.focal(LOGITS, TARGETS, gamma), expected, rtol=1e-4)
    recipe = Recipe(focal_gamma=gamma)
    np.testing.assert_allclose(losses.image_losses(LOGITS, TARGETS, recipe), expected, rtol=1e-4)
    sure = jnp.array([[40.0, 0.0, 0.0]])
    slope = jax.grad(lambda x: losses.focal(x, jnp.eye(3)[:1], gamma).sum())(sure)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_label_noise_corrects_what_the_labels_are_compared_with(noise):
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    other = noise / (CLASSES - 1)
    transition = np.full((CLASSES, CLASSES), other) + np.eye(CLASSES) * (1 - noise - other)
    expected = -(TARGETS * np.log(p @ transition)).sum(1)
    recipe = Recipe(label_noise=noise)
    np.testing.assert_allclose(losses.image_losses(LOGITS, TARGETS, recipe), expected, rtol=1e-5)


@pytest.mark.parametrize(("noise", "least", "most"), [(0.0, 0.99, 1.0), (0.2, 0.0, 1e-6)])
def test_a_label_that_is_surely_wrong_does_not_move_the_network(noise, least, most):
    sure_of_another = jnp.zeros((1, CLASSES)).at[0, 1].set(30.0)
    target = jnp.eye(CLASSES)[:1]
    slope = jax.grad(lambda x: losses.forward_corrected(x, target, noise).sum())(sure_of_another)
    assert least <= float(jnp.abs(slope).max()) <= most


def test_class_weights_scale_the_losses():
    weights = (0.5, 2.0, 1.0)
    ours = losses.image_losses(LOGITS, TARGETS, Recipe(class_weights=weights, label_smoothing=0.1))
    plain = losses.image_losses(LOGITS, TARGETS, Recipe(label_smoothing=0.1))
    np.testing.assert_allclose(ours, plain * (TARGETS @ np.array(weights)), rtol=1e-5)


def test_mixed_images_count_for_the_class_with_the_larger_share():
    changes = dataclasses.replace(OFF, mixup=1.0, mixup_alpha=1.0)
    _, mixed = run(PLAIN, steps=1, augmentation=changes)
    _, plain = run(PLAIN, steps=1)
    assert mixed.confusion.counts.sum() == plain.confusion.counts.sum() == BATCH
    support = np.bincount(np.arange(BATCH) % CLASSES, minlength=CLASSES)
    np.testing.assert_array_equal(plain.confusion.counts.sum(axis=1), support)
    assert mixed.loss.total != plain.loss.total


def test_golden_losses_of_the_first_steps():
    """Loss sums of the first batches of LightVGG, with augmentation and dropout.

    They may change only with the order of random draws, the initializers or the defaults of the
    augmentation. Then the results of every run change, which CHANGELOG.md must mention.
    """
    model, optimizer = create_model("light_vgg", CLASSES, head_widths=(16,)), optax.sgd(0.05)
    recipe = Recipe(label_smoothing=0.1)
    changes = Augmentation(erase=0.25, mixup=0.3, cutmix=0.3)
    pixels = Preprocessing(12, "standardize")
    step = jax.jit(make_step_function(model, optimizer, pixels, changes, recipe, seed=0))
    state = create_state(model, optimizer, 12, 0, recipe)
    rng, found = np.random.default_rng(0), []
    for _ in range(3):
        images = rng.integers(0, 256, (BATCH, 12, 12, 3), np.uint8)
        state, metrics = step(state, {"image": images, "label": np.arange(BATCH) % CLASSES})
        found.append(float(metrics.loss.total))
    np.testing.assert_allclose(found, [11.755699, 8.970023, 9.370666], rtol=1e-4)
