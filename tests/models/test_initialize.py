"""Initial values of whole networks: those that the modules declare, from the seed."""

from __future__ import annotations

import hashlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models import initialize as module
from fer_jax.models.initialize import abstract_variables, initialize
from fer_jax.models.layers.initializers import glorot_uniform
from fer_jax.models.registry import MODELS, create_model

SIZE = 8

# Network, settings, side, seed and the digest of its variables. May change only with the way of
# drawing: runs of one seed would start differently.
DIGESTS = [
    ("light_vgg", {}, 32, 0, "7407b18074466973e9e414c9f1f34e60a38edaa139ae8bff737e4a3478d7edde"),
    ("vgg16", {}, 32, 1, "123fa1751e59f8b7dfe77d3b93ac6c9916fa30f70ca74854d99ef09d5c93fc41"),
    (
        "vgg16",
        {"remat": True},
        32,
        1,
        "123fa1751e59f8b7dfe77d3b93ac6c9916fa30f70ca74854d99ef09d5c93fc41",
    ),
    (
        "inception_resnet_v2",
        {},
        96,
        2,
        "97c45086aca5935408aa12b9b374564850c0d04641e9dbd3769d83572938e44a",
    ),
    ("resnet18", {}, 32, 3, "1024e2f58d4f0de15a9f660ebb5433a0db1a87033d18ad1bd06aadd2fef79b18"),
    (
        "resnet18",
        {"remat": True},
        32,
        3,
        "1024e2f58d4f0de15a9f660ebb5433a0db1a87033d18ad1bd06aadd2fef79b18",
    ),
    (
        "custom_cnn",
        {"batch_norm": True},
        28,
        4,
        "86be693a54fea40492f1633f0de080e55e2e69eb14beffc229bd17ca981a4e7c",
    ),
]


def digest(variables: Any) -> str:
    sha256 = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(variables):
        name = f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}"
        sha256.update(name.encode() + array.tobytes())
    return sha256.hexdigest()


@pytest.mark.parametrize(("name", "settings", "size", "seed", "expected"), DIGESTS)
def test_registered_networks_start_from_recorded_values(name, settings, size, seed, expected):
    variables = initialize(create_model(name, 7, **settings), size, seed)
    assert digest({"batch_stats": {}} | variables) == expected


class Layer(nn.Module):
    """Every kind of parameter; a kernel of 20 x 20 for each initializer."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for name, kernel_init in {
            "glorot": glorot_uniform,
            "zeros": nn.initializers.zeros,
            "twos": nn.initializers.constant(2.0),
            "default": nn.initializers.lecun_normal(),
            "orthogonal": nn.initializers.orthogonal(),
            "scaled": lambda *arguments: 3 * glorot_uniform(*arguments),
        }.items():
            x = nn.Dense(20, kernel_init=kernel_init, name=name)(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return x + self.param("cls_token", nn.initializers.normal(0.02), (1, 20))


class Declared(nn.Module):
    """A network of two layers, which may be remat or share one trace."""

    remat: bool = False
    shares_blocks: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        layer: Any = nn.remat(Layer, static_argnums=(2,)) if self.remat else Layer
        layer = nn.jit(layer, static_argnums=(2,)) if self.shares_blocks else layer
        x = images.reshape(images.shape[0], -1)[:, :20]
        for name in ("first", "second"):
            x = layer(name=name)(x, train)
        return x


NETWORKS = [
    pytest.param(Declared(remat=remat, shares_blocks=shares), id=f"remat={remat}-shares={shares}")
    for remat in (False, True)
    for shares in (False, True)
]


@pytest.mark.parametrize("model", NETWORKS)
def test_values_are_the_declared_ones(model):
    variables = initialize(model, SIZE, 0)
    images = jnp.zeros((1, SIZE, SIZE, 3))
    declared = model.init(jax.random.key(0), images, train=False)
    assert jax.tree.structure(variables) == jax.tree.structure(declared)
    for (path, actual), expected in zip(
        jax.tree_util.tree_leaves_with_path(variables), jax.tree.leaves(declared), strict=True
    ):
        name = jax.tree_util.keystr(path)
        assert isinstance(actual, np.ndarray)
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), name
        if "'glorot']['kernel']" not in name:  # which NumPy draws
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    layer = variables["params"]["second"]
    assert not layer["zeros"]["kernel"].any()
    assert (layer["twos"]["kernel"] == 2).all()
    kernel = layer["orthogonal"]["kernel"]
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(20), atol=1e-5)
    assert 0.01 < layer["cls_token"].std() < 0.03
    assert 0 < np.abs(layer["glorot"]["kernel"]).max() <= np.sqrt(6 / 40)


def test_every_random_value_depends_on_the_seed_and_its_path():
    one, other = (initialize(Declared(), SIZE, seed)["params"] for seed in (0, 1))
    for name in ("glorot", "default", "orthogonal", "scaled", "cls_token"):
        arrays = [
            leaf.tobytes()
            for params in (one, other)
            for layer in params.values()
            for leaf in jax.tree.leaves(layer[name])
            if leaf.any()
        ]
        assert len(set(arrays)) == 4, name


@pytest.mark.parametrize("name", sorted(MODELS))
def test_no_program_is_compiled_for_a_registered_network(name, monkeypatch):
    drawn: list[int] = []
    monkeypatch.setattr(
        module, "_drawn_by_jax", lambda model, size, seed, leaves: drawn.extend(leaves) or []
    )
    initialize(create_model(name, 7), MODELS[name].min_size, 0)
    assert not drawn


def test_abstract_variables_have_the_same_shapes():
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), initialize(Declared(), SIZE, 0)
    )
    assert abstract_variables(Declared(), SIZE) == shapes
