"""Grad-CAM: shapes, sanity checks (Adebayo et al., 2018), and localization of a planted cue."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fer_jax.inference import gradcam
from fer_jax.inference.overlay import overlay
from fer_jax.models.registry import create_model

SIZE, PATCH = 24, 6

NETWORKS = {
    "light_vgg": (24, {}, ("conv2_2",)),
    "custom_cnn": (16, {"batch_norm": True}, ("bn2",)),
    "vgg16": (64, {"remat": True}, ("backbone",)),
    "resnet18": (40, {}, ("backbone",)),
    "resnet50": (40, {"depths": (1, 1, 1, 1)}, ("backbone",)),
    "senet50": (40, {"depths": (1, 1, 1, 1)}, ("backbone",)),
    "ir50": (40, {"depths": (1, 1, 1, 1)}, ("backbone",)),
    "face_resnet": (103, {"remat": True}, ("backbone",)),
    # One block of each kind: the full network takes a minute and has its own tests.
    "inception_resnet_v2": (80, {"repeats": (1, 1, 1)}, ("backbone",)),
}


def initial(model, size: int, seed: int = 0):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return model.lazy_init({"params": jax.random.key(seed)}, images, train=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_feature_map_of_each_network_is_found(name):
    size, settings, path = NETWORKS[name]
    model = create_model(name, 7, **settings)
    images = jnp.zeros((1, size, size, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    actual, shape = gradcam.find_last_map(model, shapes, size)
    assert actual == path
    assert shape[0] == shape[1] < size


@pytest.mark.parametrize(
    "name",
    [
        "light_vgg",
        pytest.param("custom_cnn", marks=pytest.mark.slow),
        pytest.param("vgg16", marks=pytest.mark.slow),
        pytest.param("inception_resnet_v2", marks=pytest.mark.slow),
        pytest.param("resnet18", marks=pytest.mark.slow),
    ],
)
def test_maps_have_the_images_size_and_values_in_0_to_1_and_logits_are_unchanged(name):
    size, settings, _ = NETWORKS[name]
    model = create_model(name, 7, **settings)
    variables = initial(model, size)
    inputs = jax.random.normal(jax.random.key(1), (2, size, size, 3))
    logits, heat = jax.jit(gradcam.make_explain(model, variables, size))(variables, inputs, None)
    np.testing.assert_allclose(
        logits, model.apply(variables, inputs, train=False), rtol=1e-4, atol=1e-5
    )
    assert heat.shape == (2, size, size)
    assert heat.dtype == jnp.float32
    assert heat.min() >= 0
    assert heat.max() == pytest.approx(1)


def planted(key, count: int):
    """Returns noise images with a bright patch in class 1, the classes and the patches' corners."""
    position, label, noise = jax.random.split(key, 3)
    labels = jax.random.bernoulli(label, 0.5, (count,)).astype(jnp.int32)
    corners = jax.random.randint(position, (count, 2), 2, SIZE - PATCH - 2)
    grid = jnp.arange(SIZE)
    inside = (grid >= corners[..., None]) & (grid < corners[..., None] + PATCH)
    patch = inside[:, 0, :, None] & inside[:, 1, None, :] & (labels == 1)[:, None, None]
    images = 0.3 * jax.random.normal(noise, (count, SIZE, SIZE, 3))
    return images + 2.0 * patch[..., None], labels, corners


@pytest.fixture(scope="module")
def detector():
    """A small network trained to detect the patch."""
    model = create_model("light_vgg", 2, widths=(8,), head_widths=(), dropout=0.0)
    variables = initial(model, SIZE)
    optimizer = optax.adam(5e-3)

    def loss(params, images, labels):
        logits = model.apply({"params": params}, images, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state, key):
        images, labels, _ = planted(key, 32)
        gradient = jax.grad(loss)(params, images, labels)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params, state = variables["params"], optimizer.init(variables["params"])
    for number in range(40):
        params, state = step(params, state, jax.random.key(number))
    return model, {"params": params}


@pytest.fixture(scope="module")
def explained(detector):
    """Labels, corners, and a function from (variables, class) to logits and maps."""
    model, variables = detector
    program = jax.jit(gradcam.make_explain(model, variables, SIZE))
    images, labels, corners = planted(jax.random.key(999), 64)
    explain = lambda variables, label: program(variables, images, jnp.full(64, label))  # noqa: E731
    return labels, corners, explain


def test_the_map_peaks_at_the_patch(detector, explained):
    labels, corners, explain = explained
    logits, heat = explain(detector[1], 1)
    right = np.flatnonzero((logits.argmax(-1) == labels) & (labels == 1))
    assert len(right) > 20
    hits = 0
    for row in right:
        top, left = np.unravel_index(np.argmax(heat[row]), (SIZE, SIZE))
        y, x = corners[row]
        # The map has half the image's size: two pixels of blur.
        hits += y - 2 <= top < y + PATCH + 2 and x - 2 <= left < x + PATCH + 2
    assert hits >= 0.9 * len(right)


def test_random_weights_give_a_different_map(detector, explained):
    labels, _, explain = explained
    trained, random = (
        np.asarray(explain(variables, 1)[1])[labels == 1]
        for variables in (detector[1], initial(detector[0], SIZE, seed=5))
    )
    correlations = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(trained, random, strict=True)
        if b.any()
    ]
    assert np.mean(correlations or [0.0]) < 0.5


def test_another_class_has_a_different_map(detector, explained):
    labels, _, explain = explained
    maps = [np.asarray(explain(detector[1], label)[1])[labels == 1] for label in (0, 1)]
    assert not np.allclose(maps[0], maps[1], atol=0.1)


def test_an_overlay_colors_hot_regions_only():
    image = np.full((40, 60, 3), 128, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[:2] = 1
    blended = overlay(image, heat)
    assert blended.shape == image.shape
    assert blended.dtype == np.uint8
    np.testing.assert_array_equal(blended[-5:], image[-5:])
    assert (blended[:5] != 128).any(axis=-1).all()
