"""Tests of freezing: frozen blocks do not change and have no optimizer state."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fer_jax.data.preprocess import Preprocessing
from fer_jax.errors import UserError
from fer_jax.models.registry import create_model
from fer_jax.runtime import sharding
from fer_jax.settings import Augmentation
from fer_jax.training.freezing import Frozen, find_blocks, freeze
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import abstract_state, create_state
from fer_jax.training.step import make_step_function, make_train_step

SIZE, BATCH, STEPS = 8, 8, 20


class Backbone(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for number in (1, 2):
            x = nn.Conv(4, (3, 3), name=f"block1_conv{number}")(x)
            norm = nn.BatchNorm(momentum=0.5, name=f"block1_norm{number}")
            x = nn.relu(norm(x, use_running_average=not train))
        return nn.Conv(4, (3, 3), name="block2_conv1")(x)


class Network(nn.Module):
    """A small backbone with BatchNorm, and a head."""

    @nn.compact
    def __call__(self, images, train):
        x = Backbone(name="backbone")(images, train).mean((1, 2))
        x = nn.BatchNorm(name="head_norm")(x, use_running_average=not train)
        return nn.Dense(3, name="head")(x)


BLOCKS = (
    ("backbone", "block1_conv1"), ("backbone", "block1_norm1"), ("backbone", "block1_conv2"),
    ("backbone", "block1_norm2"), ("backbone", "block2_conv1"), ("head_norm",), ("head",),
)  # fmt: skip


def test_blocks_are_in_the_order_of_the_forward_pass():
    assert find_blocks(Network(), SIZE) == BLOCKS
    assert find_blocks(create_model("light_vgg", 3), SIZE) == (
        ("conv1_1",), ("conv1_2",), ("conv2_1",), ("conv2_2",), ("head1",), ("head2",), ("head",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "size", "depths", "count"),
    [("resnet18", 32, (2, 2, 2, 2), 5), ("face_resnet", 103, (3, 4, 3, 3, 1), 8)],
)
def test_blocks_of_a_resnet_are_frozen_by_layer(name, size, depths, count):
    blocks = find_blocks(create_model(name, 3), size)
    layers = [f"layer{i}_{j + 1}" for i, depth in enumerate(depths, 1) for j in range(depth)]
    assert [path[-1] for path in blocks] == ["stem", *layers, "head"]
    assert freeze("layer2", blocks).blocks == frozenset(blocks[:count])


@pytest.mark.parametrize(
    ("name", "count"), [("none", 0), ("backbone", 5), ("block1_conv1", 1), ("block1", 4)]
)
def test_freezing_up_to_a_block(name, count):
    assert freeze(name, BLOCKS).blocks == frozenset(BLOCKS[:count])


def test_without_a_backbone_the_dense_layers_are_the_head():
    blocks = (("conv1_1",), ("conv1_2",), ("head1",), ("head",))
    assert freeze("backbone", blocks).blocks == frozenset(blocks[:2])


@pytest.mark.parametrize(
    ("name", "blocks", "message"),
    [
        ("block3", BLOCKS, r"found 'block3'; did you mean block\d.*blocks in order: block1_conv1"),
        ("backbone", (("head1",), ("head",)), "found 'backbone'.*head1, head"),
        ("head", BLOCKS, "model.freeze=head leaves nothing to train"),
    ],
)
def test_invalid_blocks_are_reported(name, blocks, message):
    with pytest.raises(UserError, match=message):
        freeze(name, blocks)


def train(frozen: Frozen):
    mesh, model = sharding.data_mesh(), Network()
    optimizer = frozen.optimizer(optax.adamw(1e-2, weight_decay=0.1))
    function = make_step_function(
        model, optimizer, Preprocessing(SIZE, "unit"), Augmentation(), PLAIN, 0, frozen
    )
    step = make_train_step(function, mesh)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    labels = rng.integers(0, 3, BATCH).astype(np.int32)
    batch = sharding.put_batch({"image": images, "label": labels}, mesh)
    state = sharding.replicate(create_state(model, optimizer, SIZE, 0), mesh)
    # Adding anything to a negative zero, even zero, loses its sign.
    kernel = state.params["backbone"]["block1_conv1"]["kernel"]
    state.params["backbone"]["block1_conv1"]["kernel"] = kernel.at[0, 0, 0, 0].set(-0.0)
    before = jax.device_get(state)
    for _ in range(STEPS):
        state, _ = step(state, batch)
    return before, jax.device_get(state)


def changed(before, after):
    """Returns the paths of the arrays whose bytes changed."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {
        tuple(key.key for key in path)
        for (path, old), new in pairs
        if np.asarray(old).tobytes() != np.asarray(new).tobytes()
    }


@pytest.mark.parametrize("name", ["none", "block1", "backbone"])
def test_only_trainable_arrays_change(name):
    frozen = freeze(name, BLOCKS)
    before, after = train(frozen)
    paths = [
        tuple(key.key for key in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(before.params)
    ]
    # The gradient of a bias before BatchNorm is rounding only; weight decay moves everything.
    assert changed(before.params, after.params) >= {
        path for path in paths if not frozen.covers(path) and path[-1] == "kernel"
    }
    assert not any(frozen.covers(path) for path in changed(before.params, after.params))
    statistics = changed(before.batch_stats, after.batch_stats)
    assert ("head_norm", "mean") in statistics
    assert (("backbone", "block1_norm1", "mean") in statistics) == (name == "none")
    assert not any(frozen.covers(path) for path in statistics)


@pytest.mark.parametrize(("name", "arrays"), [("none", 2 * 14 + 2), ("backbone", 2 * 4 + 2)])
def test_only_trainable_parameters_have_optimizer_state(name, arrays):
    frozen = freeze(name, BLOCKS)
    optimizer = frozen.optimizer(optax.adam(optax.constant_schedule(1e-3)))
    state = create_state(Network(), optimizer, SIZE, 0)
    assert len(jax.tree.leaves(state.opt_state)) == arrays


def test_a_frozen_norm_uses_running_statistics():
    model = Network()
    images = jax.random.normal(jax.random.key(1), (BATCH, SIZE, SIZE, 3)) * 3 + 1
    variables = model.init(jax.random.key(0), images, train=False)
    run = lambda train: np.asarray(  # noqa: E731
        model.apply(variables, images, train=train, mutable=["batch_stats"])[0]
    )
    everything = Frozen(frozenset(BLOCKS))
    with everything.inference_norms():
        np.testing.assert_array_equal(run(True), run(False))
    assert not np.allclose(run(True), run(False))
    assert jnp.isfinite(run(True)).all()


@pytest.mark.slow
def test_identical_blocks_are_frozen_separately():
    model = create_model("inception_resnet_v2", 3, head_widths=(), repeats=(3, 1, 1))
    images = jax.random.normal(jax.random.key(1), (2, 75, 75, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    frozen = freeze("block35_2", find_blocks(model, 75))

    @jax.jit
    def statistics(variables, images):
        with frozen.inference_norms():
            _, updated = model.apply(variables, images, train=True, mutable=["batch_stats"],
                                     rngs={"dropout": jax.random.key(2)})  # fmt: skip
        return updated["batch_stats"]

    moved = changed(variables["batch_stats"], statistics(variables, images))
    blocks = {path[1] for path in moved}
    assert blocks >= {"block35_3", "mixed_6a", "block17_1", "block8_1", "conv_7b"}
    assert not blocks & {"stem1", "mixed_5b", "block35_1", "block35_2"}


def equations(frozen: Frozen) -> int:
    """Returns the number of equations of a training step."""
    mesh, model = sharding.data_mesh(), create_model("inception_resnet_v2", 3, repeats=(3, 1, 1))
    optimizer = frozen.optimizer(optax.adam(1e-3))
    function = make_step_function(
        model, optimizer, Preprocessing(75, "unit"), Augmentation(), PLAIN, 0, frozen
    )
    batch = {
        "image": jax.ShapeDtypeStruct((8, 75, 75, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((8,), jnp.int32),
    }
    step = make_train_step(function, mesh)
    return len(step.trace(abstract_state(model, optimizer, 75, mesh), batch).jaxpr.eqns)


def test_identical_blocks_share_a_function_only_if_nothing_is_frozen():
    # A frozen block makes Adam smaller, but every block is traced separately.
    assert equations(Frozen()) < 0.9 * equations(Frozen(frozenset({("backbone", "block35_1")})))
