"""Each network memorizes 64 images with the real training step; only true labels generalize.

The images are synthetic patterns: three classes that differ in the position of a bright patch.
"""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

from fer_jax.data.augment import OFF
from fer_jax.data.preprocess import Preprocessing
from fer_jax.models.registry import MODELS, create_model
from fer_jax.training.losses import cross_entropy
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import TrainState, create_state
from fer_jax.training.step import make_step_function

CLASSES, IMAGES = 3, 64
# Settings that make a network small enough for a test, learning rate, maximum number of steps.
SMALL = {
    "custom_cnn": ({"head_widths": (16,), "batch_norm": True}, 2e-3, 60),
    "face_resnet": ({}, 5e-4, 60),
    "inception_resnet_v2": ({"head_widths": (16,), "repeats": (1, 1, 1)}, 1e-3, 40),
    "light_vgg": ({"head_widths": (32,)}, 5e-3, 120),
    "resnet18": ({"small_stem": True, "depths": (1, 1, 1, 1)}, 1e-3, 40),
    "resnet50": ({"depths": (1, 1, 1, 1)}, 1e-3, 60),
    "resnet50_caffe": ({"depths": (1, 1, 1, 1)}, 1e-3, 60),
    "senet50": ({"depths": (1, 1, 1, 1)}, 1e-3, 60),
    "ir50": ({"depths": (1, 1, 1, 1)}, 1e-3, 60),
    "vgg16": ({"head_widths": (16,), "pooling": "max"}, 2e-4, 60),
}
SLOW = set(SMALL) - {"light_vgg"}


def patches(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright patch in one of three corners: uint8 images; labels are the corners."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 160, (count, size, size, 3), np.uint8)
    labels = np.arange(count) % CLASSES
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        y, x = ((0, 0), (0, half), (half, 0))[label]
        image[y : y + half, x : x + half] += 60
    return images, labels


def train(
    name: str, images: np.ndarray, labels: np.ndarray, **settings: object
) -> tuple[TrainState, float]:
    """Trains until all images are correct or the steps are used up; returns the last accuracy."""
    small, rate, steps = SMALL[name]
    model = create_model(name, CLASSES, **{"dropout": 0.0, **small, **settings})
    size, optimizer = images.shape[1], optax.adam(rate)
    pixels = Preprocessing(size, "standardize")
    step = jax.jit(make_step_function(model, optimizer, pixels, OFF, PLAIN, seed=0))
    state = create_state(model, optimizer, size, seed=0)
    for _ in range(steps):
        state, metrics = step(state, {"image": images, "label": labels.astype(np.int32)})
        accuracy = np.trace(metrics.confusion.counts) / len(labels)
        if accuracy == 1:
            break
    return state, float(accuracy)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sorted(MODELS)],
)
def test_a_network_memorizes_64_images(name):
    size = max(MODELS[name].min_size, 16)
    images, labels = patches(IMAGES, size, seed=0)
    assert train(name, images, labels)[1] == 1


@pytest.mark.parametrize("shuffled", [False, True])
def test_only_true_labels_generalize(shuffled):
    images, labels = patches(IMAGES, 16, seed=0)
    test_images, test_labels = patches(300, 16, seed=1)
    train_labels = np.random.default_rng(2).permutation(labels) if shuffled else labels
    state, accuracy = train("light_vgg", images, train_labels)
    model = create_model("light_vgg", CLASSES, head_widths=(32,))
    logits = model.apply(
        state.variables, Preprocessing(16, "standardize").normalized(test_images), False
    )
    test_accuracy = float((np.argmax(logits, axis=1) == test_labels).mean())
    loss = float(cross_entropy(logits, np.eye(CLASSES)[test_labels]).mean())
    assert accuracy > 0.9  # memorized in both cases
    if shuffled:
        assert test_accuracy < 0.5
        assert loss > np.log(CLASSES)
    else:
        assert test_accuracy > 0.95
