"""IR-50: stages against the table, shortcuts, PReLU."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.ir50 import PReLU, ResidualBlock
from fer_jax.models.registry import create_model
from fer_jax.training.state import count_parameters

# First or last block of a stage, its output at 112 pixels, parameters of the stage.
STAGES = [
    ("stem", (112, 112, 64), 1_920),
    ("layer1_1", (56, 56, 64), 222_144),
    ("layer2_4", (28, 28, 128), 1_116_800),
    ("layer3_14", (14, 14, 256), 16_271_104),
    ("layer4_3", (7, 7, 512), 13_115_392),
    ("norm", (7, 7, 512), 1_024),
]


@functools.cache
def traced():
    """Returns the shapes of the backbone's outputs and parameters."""
    model = create_model("ir50", 7)
    run = lambda key, images: model.init_with_output(  # noqa: E731
        key, images, train=False, capture_intermediates=True, mutable=True
    )
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    variables = jax.eval_shape(run, jax.random.key(0), images)[1]
    return variables["intermediates"]["backbone"], variables["params"]["backbone"]


@pytest.mark.parametrize(("block", "shape", "count"), STAGES)
def test_stage_equals_the_table(block, shape, count):
    outputs, params = traced()
    assert outputs[block]["__call__"][0].shape == (1, *shape)
    stage = block.split("_")[0]
    blocks = {name: tree for name, tree in params.items() if name.split("_")[0] == stage}
    assert count_parameters(blocks) == count


def test_shortcuts_have_weights_where_the_channels_change():
    actual = [block for block, layers in traced()[1].items() if "shortcut_conv" in layers]
    assert sorted(actual) == ["layer2_1", "layer3_1", "layer4_1"]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_adds_every_second_pixel_and_no_activation_follows(stride):
    block, x = ResidualBlock(3, stride), jax.random.normal(jax.random.key(1), (2, 5, 5, 3))
    variables = block.init(jax.random.key(0), x, train=False)
    variables["params"]["bn2"] = {"scale": jnp.zeros(3), "bias": jnp.full(3, -0.5)}
    expected = x[:, ::stride, ::stride] - 0.5
    np.testing.assert_allclose(block.apply(variables, x, train=False), expected, rtol=1e-6)


def test_prelu_multiplies_negative_numbers_by_their_channels_slope():
    x = jnp.array([[[[-2.0, -2.0], [3.0, 0.0]]]])
    variables = PReLU().init(jax.random.key(0), x)
    assert variables["params"]["slope"].tolist() == [0.25, 0.25]
    variables = {"params": {"slope": jnp.array([0.5, -1.0])}}
    assert PReLU().apply(variables, x).tolist() == [[[[-1.0, 2.0], [3.0, 0.0]]]]
