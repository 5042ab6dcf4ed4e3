"""ResNet-18 and ResNet-50: stages against the table, strides, BatchNorms, residual sums."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.registry import create_model
from fer_jax.models.resnet import ConvUnit, Excitation, ResidualBlock, Unit
from fer_jax.training.state import count_parameters

# Network, first or last block of a stage, its output at 224 pixels, parameters of the stage.
STAGES = [
    ("resnet18", "stem", (112, 112, 64), 9_536),
    ("resnet18", "layer1_2", (56, 56, 64), 147_968),
    ("resnet18", "layer2_1", (28, 28, 128), 525_568),
    ("resnet18", "layer3_2", (14, 14, 256), 2_099_712),
    ("resnet18", "layer4_2", (7, 7, 512), 8_393_728),
    ("resnet50", "stem", (112, 112, 64), 9_536),
    ("resnet50", "layer1_1", (56, 56, 256), 215_808),
    ("resnet50", "layer2_4", (28, 28, 512), 1_219_584),
    ("resnet50", "layer3_6", (14, 14, 1024), 7_098_368),
    ("resnet50", "layer4_3", (7, 7, 2048), 14_964_736),
]


@functools.cache
def traced(name: str, size: int = 224, **settings):
    """Returns the shapes of the backbone's outputs and parameters, and all called modules."""
    model, called = create_model(name, 7, **settings), []

    def record(call, arguments, keywords, context):
        called.append(context.module)
        return call(*arguments, **keywords)

    run = lambda key, images: model.init_with_output(  # noqa: E731
        key, images, train=False, capture_intermediates=True, mutable=True
    )
    with nn.intercept_methods(record):
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        _, variables = jax.eval_shape(run, jax.random.key(0), images)
    return variables["intermediates"]["backbone"], variables["params"]["backbone"], called


@pytest.mark.parametrize(("name", "block", "shape", "count"), STAGES)
def test_stage_equals_the_table(name, block, shape, count):
    outputs, params, _ = traced(name)
    assert outputs[block]["__call__"][0].shape == (1, *shape)
    stage = block.split("_")[0]
    blocks = {name: tree for name, tree in params.items() if name.split("_")[0] == stage}
    assert count_parameters(blocks) == count


@pytest.mark.parametrize(("name", "convolutions"), [("resnet18", 20), ("resnet50", 53)])
def test_convolutions_and_norms(name, convolutions):
    _, _, modules = traced(name)
    convs = [module for module in modules if isinstance(module, nn.Conv)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm)]
    assert len(convs) == len(norms) == convolutions
    assert not any(conv.use_bias for conv in convs)
    assert {(conv.kernel_size[0], conv.padding) for conv in convs} <= {(7, 3), (3, 1), (1, 0)}
    assert {(norm.epsilon, norm.momentum, norm.use_scale) for norm in norms} == {(1e-5, 0.9, True)}


@pytest.mark.parametrize(
    ("name", "strided"),
    [("resnet18", "unit1"), ("resnet50", "unit2"), ("resnet50_caffe", "unit1")],
)
def test_a_block_strides_in_one_unit_and_its_shortcut(name, strided):
    _, _, modules = traced(name)
    actual = {
        module.path[1:]
        for module in modules
        if isinstance(module, ConvUnit) and module.unit.stride == 2
    }
    blocks = [f"layer{layer}_1" for layer in (2, 3, 4)]
    assert actual == {("stem",)} | {
        (block, unit) for block in blocks for unit in (strided, "shortcut")
    }


@pytest.mark.parametrize(("name", "first"), [("resnet18", 2), ("resnet50", 1)])
def test_shortcuts_are_where_the_shape_changes(name, first):
    _, params, _ = traced(name)
    actual = [block for block, units in params.items() if "shortcut" in units]
    assert sorted(actual) == [f"layer{layer}_1" for layer in range(first, 5)]


@pytest.mark.parametrize(("name", "size", "side"), [("resnet50", 65, 17), ("senet50", 65, 16)])
def test_caffes_pooling_is_not_padded_at_the_start(name, size, side):
    assert traced(name, size)[0]["layer1_1"]["__call__"][0].shape == (1, side, side, 256)


def test_excitation_weighs_each_channel_by_the_averages_of_all():
    block, x = Excitation(), np.random.default_rng(0).normal(size=(2, 3, 4, 32)).astype(np.float32)
    variables = block.init(jax.random.key(0), x)
    layers = variables["params"]
    layers["squeeze"]["bias"] = jnp.array([1.0, -9.0])  # the second is cut off by ReLU
    hidden = x.mean((1, 2)) @ layers["squeeze"]["kernel"][0, 0, :, :1] + 1
    weights = 1 / (1 + np.exp(-hidden @ layers["excite"]["kernel"][0, 0, :1]))
    np.testing.assert_allclose(block.apply(variables, x), x * weights[:, None, None], rtol=1e-5)


def test_the_small_stem_preserves_the_size():
    outputs, params, _ = traced("resnet18", 48, small_stem=True)
    assert count_parameters(params["stem"]) == 1_856
    shapes = [outputs[f"layer{layer}_2"]["__call__"][0].shape[1] for layer in (1, 2, 3, 4)]
    assert shapes == [48, 24, 12, 6]


def test_a_block_adds_its_input_before_the_last_relu():
    block = ResidualBlock((Unit(5, 3), Unit(5, 3)))
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 5))
    variables = block.init(jax.random.key(0), x, train=False)
    norm = variables["params"]["unit2"]["bn"]
    norm["scale"], norm["bias"] = jnp.zeros(5), jnp.full(5, -0.5)
    expected = np.maximum(np.asarray(x) - np.float32(0.5), 0)
    np.testing.assert_allclose(block.apply(variables, x, train=False), expected, rtol=1e-6)


@pytest.mark.slow
def test_shared_blocks_are_traced_once_with_equal_results():
    settings = {"depths": (3, 1, 1, 1)}
    model = create_model("resnet18", 3, **settings)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(images)
    shared = model.clone(shares_blocks=True)
    train = lambda network: jax.jit(  # noqa: E731
        lambda variables, x: network.apply(variables, x, train=True, mutable=["batch_stats"])
    )(variables, images)
    for ours, theirs in zip(*map(jax.tree.leaves, map(train, (shared, model))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    calls = []

    def record(call, arguments, keywords, context):
        calls.append(context.module.path)
        return call(*arguments, **keywords)

    with nn.intercept_methods(record):
        jax.eval_shape(lambda: shared.apply(variables, images, train=False))
    entered = {path[1] for path in calls if len(path) == 3}
    assert {"layer1_1", "layer2_1"} <= entered
    assert not {"layer1_2", "layer1_3"} & entered
