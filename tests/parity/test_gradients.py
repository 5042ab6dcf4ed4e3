"""Gradients of light_vgg and vgg16 for one batch equal Keras', for every parameter."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fer_jax.models.registry import create_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*"),  # raised inside Keras
]

TOLERANCE = 1e-5
CLASSES = 7
NETWORKS = [
    pytest.param("light_vgg", 32, id="light_vgg-light"),
    pytest.param("vgg16", 32, id="vgg16-light"),
    pytest.param("light_vgg", 100, id="light_vgg-full"),
    pytest.param("vgg16", 224, id="vgg16-full", marks=pytest.mark.slow),
]


def keras_light_vgg(keras, size: int):
    """The network of the paper's table in Keras, without dropout, as in inference."""
    layers = keras.layers
    conv = functools.partial(layers.Conv2D, padding="same", activation="relu")
    stack = [layers.Input((size, size, 3))]
    for width in (8, 16):
        stack += [conv(width, 3), conv(width, 3), layers.MaxPooling2D(2)]
    stack += [layers.Flatten(), *(layers.Dense(512, activation="relu") for _ in range(2))]
    return keras.Sequential([*stack, layers.Dense(CLASSES)])


def keras_vgg16(keras, size: int):
    base = keras.applications.VGG16(
        weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3)
    )
    dense = (keras.layers.Dense(512, activation="relu") for _ in range(2))
    return keras.Sequential([base, *dense, keras.layers.Dense(CLASSES)])


KERAS = {"light_vgg": keras_light_vgg, "vgg16": keras_vgg16}


def in_order(params: dict) -> list[tuple[str, ...]]:
    """Returns the arrays' paths in layer order: convolutions, dense layers, head."""
    flat = {
        tuple(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    position = lambda path: (path[-2] == "head", flat[(*path[:-1], "kernel")].ndim == 2)  # noqa: E731
    return sorted(flat, key=lambda path: (*position(path), path[:-1], path[-1] == "bias"))


@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_gradients(name, size, keras, random_weight, difference):
    ours, theirs = create_model(name, CLASSES), KERAS[name](keras, size)
    rng = np.random.default_rng(3)
    images = rng.normal(0, 1, (4, size, size, 3)).astype(np.float32)
    labels = jnp.asarray(rng.integers(0, CLASSES, 4))
    shapes = jax.eval_shape(
        lambda key: ours.init(key, jnp.asarray(images), train=False)["params"], jax.random.key(0)
    )
    paths = in_order(shapes)
    values = [random_weight(v.name, tuple(v.shape), i) for i, v in enumerate(theirs.weights)]
    assert len(values) == len(paths)

    def loss(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def our_loss(values):
        params: dict = {}
        for path, value in zip(paths, values, strict=True):
            tree = params
            for key in path[:-1]:
                tree = tree.setdefault(key, {})
            tree[path[-1]] = value
        return loss(ours.apply({"params": params}, images, train=False))

    def their_loss(values):
        return loss(theirs.stateless_call(values, [], images, training=False)[0])

    values = [jnp.asarray(value) for value in values]
    our_gradients, their_gradients = (
        jax.jit(jax.grad(our_loss))(values),
        jax.jit(jax.grad(their_loss))(values),
    )
    errors = [
        difference(ours, theirs)
        for ours, theirs in zip(our_gradients, their_gradients, strict=True)
    ]
    print(f"\n{name} {size} px gradients: {max(errors):.1e}")
    assert max(errors) <= TOLERANCE
