"""The networks: exact parameter counts, outputs, and the registry's message."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.engine.state import count_parameters
from fer_jax.models.pooling import max_pool_2x2
from fer_jax.models.registry import MODELS, UnknownModelError, create_model

# Network, side of the input, classes, and the paper's count to the unit.
COUNTS = [
    ("light_vgg", 100, 7, 5_391_055),
    ("custom_cnn", 224, 6, 99_143_494),
]


def variables_of(name: str, size: int, classes: int):
    model = create_model(name, classes)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return model, jax.eval_shape(lambda key, x: model.init(key, x, train=False),
                                 jax.random.key(0), images)  # fmt: skip


@pytest.mark.parametrize(("name", "size", "classes", "count"), COUNTS)
def test_parameter_count_is_the_papers(name, size, classes, count):
    _, variables = variables_of(name, size, classes)
    assert count_parameters(variables) == count


def test_every_network_has_its_count_tested():
    assert {row[0] for row in COUNTS} == set(MODELS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_logits_and_parameters_stay_float32(name, dtype):
    model = create_model(name, 5, dtype=dtype)
    images = jnp.ones((2, 20, 20, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    logits = model.apply(variables, images, train=False)
    assert logits.shape == (2, 5)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_dropout_draws_in_training_only(name):
    model = create_model(name, 3)
    images = jax.random.normal(jax.random.key(1), (2, 20, 20, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    run = lambda train, seed: np.asarray(  # noqa: E731
        model.apply(variables, images, train=train, rngs={"dropout": jax.random.key(seed)})
    )
    assert np.array_equal(run(False, 0), run(False, 1))
    assert not np.array_equal(run(True, 0), run(True, 1))


def test_kernels_are_glorot_uniform_and_biases_zero():
    model, _ = variables_of("light_vgg", 32, 7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    dense = variables["params"]["dense2"]
    limit = (6 / (512 + 512)) ** 0.5
    assert 0.99 * limit < np.abs(dense["kernel"]).max() <= limit
    assert not np.asarray(dense["bias"]).any()


def test_unknown_network_names_the_nearest():
    with pytest.raises(
        UnknownModelError, match=r"'light_vg'.*did you mean 'light_vgg'.*custom_cnn"
    ):
        create_model("light_vg", 7)


@pytest.mark.parametrize("side", [6, 7])
def test_pooling_equals_the_windowed_maximum(side):
    import flax.linen as nn

    # Distinct values: on ties the two forms share the gradient differently.
    images = jax.random.permutation(jax.random.key(0), jnp.arange(2.0 * side * side * 3))
    images = images.reshape(2, side, side, 3)
    windowed = lambda x: nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))  # noqa: E731
    np.testing.assert_array_equal(max_pool_2x2(images), windowed(images))
    gradient = lambda pool: jax.grad(lambda x: (pool(x) ** 2).sum())(images)  # noqa: E731
    np.testing.assert_array_equal(gradient(max_pool_2x2), gradient(windowed))
