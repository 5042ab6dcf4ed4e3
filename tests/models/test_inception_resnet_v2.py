"""InceptionResNetV2: stages against the paper's table, BatchNorms, residual blocks."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.inception_resnet_v2 import (
    InceptionResNetV2,
    InceptionResNetV2Backbone,
    ResidualBlock,
    Unit,
)
from fer_jax.models.layers.conv import BiasConv
from fer_jax.training.state import count_parameters

IMAGES = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)

# Name, output at 224 pixels, number of parameters and statistics, from the paper's table.
STAGES = [
    ("stem1", (111, 111, 32), None),
    ("stem2", (109, 109, 32), None),
    ("stem3", (109, 109, 64), None),
    ("stem4", (54, 54, 80), None),
    ("stem5", (52, 52, 192), None),
    ("mixed_5b", (25, 25, 320), None),
    ("block35_1", (25, 25, 320), 123_408),
    ("block35_10", (25, 25, 320), 123_408),
    ("mixed_6a", (12, 12, 1088), 2_666_240),
    ("block17_1", (12, 12, 1088), 1_127_456),
    ("block17_20", (12, 12, 1088), 1_127_456),
    ("mixed_7a", (5, 5, 2080), 3_883_008),
    ("block8_1", (5, 5, 2080), 2_036_288),
    ("block8_10", (5, 5, 2080), 2_036_288),
    ("conv_7b", (5, 5, 1536), 3_199_488),
]


def modules_of(model: nn.Module) -> list[nn.Module]:
    """All modules that the forward pass calls."""
    called: list[nn.Module] = []

    def record(call, arguments, keywords, context):
        called.append(context.module)
        return call(*arguments, **keywords)

    with nn.intercept_methods(record):
        jax.eval_shape(
            lambda key, images: model.init(key, images, train=False), jax.random.key(0), IMAGES
        )
    return called


@pytest.fixture(scope="module")
def backbone() -> tuple[dict, dict]:
    """The shapes of every stage's output, and of the variables."""
    model = InceptionResNetV2Backbone()
    run = lambda key, images: model.init_with_output(  # noqa: E731
        key, images, train=False, capture_intermediates=True, mutable=True
    )
    _, variables = jax.eval_shape(run, jax.random.key(0), IMAGES)
    return variables.pop("intermediates"), variables


@pytest.fixture(scope="module")
def modules() -> list[nn.Module]:
    return modules_of(InceptionResNetV2(7))


@pytest.mark.parametrize(("name", "shape", "count"), STAGES)
def test_stage_equals_the_table(backbone, name, shape, count):
    outputs, variables = backbone
    (output,) = outputs[name]["__call__"]
    assert output.shape == (1, *shape)
    if count is not None:
        assert count_parameters({kind: tree[name] for kind, tree in variables.items()}) == count


def test_backbone_and_head_have_the_published_counts(backbone):
    _, variables = backbone
    assert count_parameters(variables) == 54_336_736
    assert count_parameters(variables["batch_stats"]) == 60_544


def test_convolutions_and_norms(modules):
    convolutions = [module for module in modules if isinstance(module, nn.Conv | BiasConv)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm)]
    assert (len(convolutions), sum(conv.use_bias for conv in convolutions)) == (244, 40)
    assert len(norms) == 204
    assert {(norm.epsilon, norm.momentum, norm.use_scale) for norm in norms} == {
        (1e-3, 0.99, False)
    }


def test_residual_scales(modules):
    blocks = [module for module in modules if isinstance(module, ResidualBlock)]
    actual = {(block.name.split("_")[0], block.scale, block.last) for block in blocks[:-1]}
    assert actual == {("block35", 0.17, False), ("block17", 0.10, False), ("block8", 0.20, False)}
    assert (blocks[-1].name, blocks[-1].scale, blocks[-1].last) == ("block8_10", 1.0, True)


@pytest.mark.parametrize("last", [False, True])
def test_residual_block_adds_the_scaled_branches(last):
    block = ResidualBlock(((Unit(2, (1, 1)),), (Unit(3, (1, 3)),)), scale=0.2, last=last)
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 5))
    variables = block.init(jax.random.key(0), x, train=False)
    up = variables["params"]["up"]
    up["kernel"], up["bias"] = jnp.zeros_like(up["kernel"]), jnp.full(5, 3.0)
    total = np.asarray(x) + np.float32(0.6)
    expected = total if last else np.maximum(total, 0)
    np.testing.assert_allclose(block.apply(variables, x, train=False), expected, rtol=1e-6)
