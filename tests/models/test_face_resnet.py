"""The face ResNet: stages against the table, strides and padding, zeros in the smaller summand.

tests/parity compares it with dlib.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.face_resnet import ResidualBlock
from fer_jax.models.registry import create_model
from fer_jax.training.state import count_parameters

# Last block of each stage, its output at 150 pixels, parameters of the stage.
STAGES = [
    ("stem", (72, 72, 32), 4_768),
    ("layer1_3", (35, 35, 32), 55_680),
    ("layer2_4", (17, 17, 64), 277_504),
    ("layer3_3", (8, 8, 128), 812_544),
    ("layer4_3", (4, 4, 256), 3_247_104),
    ("layer5_1", (2, 2, 256), 1_180_672),
]


@pytest.fixture(scope="module")
def traced():
    """The shapes of the backbone's outputs and parameters, and its convolutions."""
    model, convolutions = create_model("face_resnet", 7), []

    def record(call, arguments, keywords, context):
        if isinstance(context.module, nn.Conv):
            convolutions.append(context.module)
        return call(*arguments, **keywords)

    run = lambda key, images: model.init_with_output(  # noqa: E731
        key, images, train=False, capture_intermediates=True, mutable=True
    )
    with nn.intercept_methods(record):
        images = jax.ShapeDtypeStruct((1, 150, 150, 3), jnp.float32)
        _, variables = jax.eval_shape(run, jax.random.key(0), images)
    return variables["intermediates"]["backbone"], variables["params"]["backbone"], convolutions


@pytest.mark.parametrize(("block", "shape", "count"), STAGES)
def test_stage_equals_the_table(traced, block, shape, count):
    outputs, params, _ = traced
    assert outputs[block]["__call__"][0].shape == (1, *shape)
    stage = block.split("_")[0]
    blocks = {name: tree for name, tree in params.items() if name.split("_")[0] == stage}
    assert count_parameters(blocks) == count


def test_convolutions_of_stride_2_are_not_padded(traced):
    convolutions = traced[2]
    assert len(convolutions) == 29
    assert {(conv.kernel_size[0], conv.strides, conv.padding) for conv in convolutions} == {
        (7, 2, 0),
        (3, 2, 0),
        (3, 1, 1),
    }


def block_output(x: np.ndarray, stride: int, **arrays: float) -> np.ndarray:
    """The output of a block of 5 filters whose second unit gives a constant."""
    block = ResidualBlock(5, stride)
    variables = jax.jit(block.init)(jax.random.key(0), x)
    unit = variables["params"]["unit2"]
    unit["conv"]["kernel"] = jnp.zeros_like(unit["conv"]["kernel"])
    unit["affine"]["bias"] = jnp.full(5, arrays["bias"])
    return np.asarray(jax.jit(block.apply)(variables, x))


def test_a_block_adds_its_input_before_the_last_relu():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(block_output(x, 1, bias=-0.5), np.maximum(x - 0.5, 0), rtol=1e-6)


def test_a_block_of_stride_2_adds_its_averaged_input_and_fills_up_with_zeros():
    # 8 x 8 maps: the pooling gives 4 x 4, the unpadded convolution 3 x 3.
    x = np.random.default_rng(0).uniform(1, 2, (2, 8, 8, 3)).astype(np.float32)
    expected = np.zeros((2, 4, 4, 5), np.float32)
    expected[..., :3] = x.reshape(2, 4, 2, 4, 2, 3).mean((2, 4))
    expected[:, :3, :3] += 0.25
    np.testing.assert_allclose(block_output(x, 2, bias=0.25), expected, rtol=1e-6)
