"""InceptionResNetV2 with the paper's head, trained on SFEW and AM-FED+.

Model card. Source: Borgalli & Surve, section on architectures and its parameter table
(56.568 M). The backbone is Szegedy et al. 2017 as Keras and timm publish it with ImageNet
weights. At 7 classes it has 56,568,551 numbers, counted as Keras counts: 56,508,007
parameters and 60,544 BatchNorm statistics. Evidence: the published backbone (54,336,736),
and a head that gives the paper's digits, which are truncated, not rounded. The paper does
not state how the features are pooled (average by default here), whether the head has
dropout, or whether the backbone is fine-tuned.

A unit is a convolution without bias, BatchNorm without scale, and ReLU. s2 is stride 2, v
is "VALID" padding ("SAME" otherwise), [..] is a branch. Counts include statistics.

| stage        | units                                                      | output at 224 px | numbers        |
|--------------|------------------------------------------------------------|------------------|----------------|
| stem         | 32 3x3 s2 v; 32 3x3 v; 64 3x3; max pool 3 s2 v;            |                  |                |
|              | 80 1x1 v; 192 3x3 v; max pool 3 s2 v                       | 25 x 25 x 192    |                |
| mixed_5b     | [96 1x1] [48 1x1, 64 5x5] [64 1x1, 96 3x3, 96 3x3]         |                  |                |
|              | [average pool 3, 64 1x1]                                   | 25 x 25 x 320    | 441,920 (both) |
| 10 x block35 | [32 1x1] [32 1x1, 32 3x3] [32 1x1, 48 3x3, 64 3x3],        |                  |                |
|              | up 320, residual scale 0.17, ReLU                          | 25 x 25 x 320    | 10 x 123,408   |
| mixed_6a     | [384 3x3 s2 v] [256 1x1, 256 3x3, 384 3x3 s2 v]            |                  |                |
|              | [max pool 3 s2 v]                                          | 12 x 12 x 1088   | 2,666,240      |
| 20 x block17 | [192 1x1] [128 1x1, 160 1x7, 192 7x1],                     |                  |                |
|              | up 1088, residual scale 0.10, ReLU                         | 12 x 12 x 1088   | 20 x 1,127,456 |
| mixed_7a     | [256 1x1, 384 3x3 s2 v] [256 1x1, 288 3x3 s2 v]            |                  |                |
|              | [256 1x1, 288 3x3, 320 3x3 s2 v] [max pool 3 s2 v]         | 5 x 5 x 2080     | 3,883,008      |
| 10 x block8  | [192 1x1] [192 1x1, 224 1x3, 256 3x1],                     |                  |                |
|              | up 2080, residual scale 0.20, ReLU; 10th: 1.0, no ReLU     | 5 x 5 x 2080     | 10 x 2,036,288 |
| conv_7b      | 1536 1x1                                                   | 5 x 5 x 1536     | 3,199,488      |
| head         | global average pool; dense 1024, 512, 256; classes         | classes          | 2,231,815      |

Parameters (the names that ported weights use), all under `backbone/` except the head:

    stem1 .. stem5                           units
    mixed_5b/branch1_1, branch2_1, branch2_2, branch3_1, .. branch3_3, branch4_1
    block35_1 .. block35_10                  branch1_1, branch2_1, branch2_2, branch3_1 .. 3_3; up
    mixed_6a/branch1_1, branch2_1 .. branch2_3
    block17_1 .. block17_20                  branch1_1, branch2_1 .. branch2_3; up
    mixed_7a/branch1_1, branch1_2, branch2_1, branch2_2, branch3_1 .. branch3_3
    block8_1 .. block8_10                    branch1_1, branch2_1 .. branch2_3; up
    conv_7b                                  a unit
    head1, head2, head3, head                {kernel, bias}, beside `backbone`

branchB_L is unit L of branch B, in the order of the table, which is also the order of
concatenation (the pooling branch is last). A unit has the parameters conv/kernel and bn/bias,
and the statistics bn/{mean, var}; up has {kernel, bias}.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.conv import BiasConv, Conv
from fer_jax.models.layers.head import dense_head
from fer_jax.models.layers.initializers import glorot_uniform
from fer_jax.models.layers.norm import BatchNorm
from fer_jax.models.layers.pool import average_pool_3x3, global_pool, max_pool_3x3
from fer_jax.models.layers.residual import relu_of_sum, wrap_block


class Unit(NamedTuple):
    """A unit's number of filters, kernel size (rows, columns), stride and padding."""

    filters: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"


Step = Unit | Callable[[jax.Array], jax.Array]
"""A unit or a pooling function."""

Branches = tuple[tuple[Step, ...], ...]

STEM: tuple[Step, ...] = (
    Unit(32, (3, 3), 2, "VALID"),
    Unit(32, (3, 3), 1, "VALID"),
    Unit(64, (3, 3)),
    max_pool_3x3,
    Unit(80, (1, 1), 1, "VALID"),
    Unit(192, (3, 3), 1, "VALID"),
    max_pool_3x3,
)
MIXED_5B: Branches = (
    (Unit(96, (1, 1)),),
    (Unit(48, (1, 1)), Unit(64, (5, 5))),
    (Unit(64, (1, 1)), Unit(96, (3, 3)), Unit(96, (3, 3))),
    (average_pool_3x3, Unit(64, (1, 1))),
)
BLOCK35: Branches = (
    (Unit(32, (1, 1)),),
    (Unit(32, (1, 1)), Unit(32, (3, 3))),
    (Unit(32, (1, 1)), Unit(48, (3, 3)), Unit(64, (3, 3))),
)
MIXED_6A: Branches = (
    (Unit(384, (3, 3), 2, "VALID"),),
    (Unit(256, (1, 1)), Unit(256, (3, 3)), Unit(384, (3, 3), 2, "VALID")),
    (max_pool_3x3,),
)
BLOCK17: Branches = (
    (Unit(192, (1, 1)),),
    (Unit(128, (1, 1)), Unit(160, (1, 7)), Unit(192, (7, 1))),
)
MIXED_7A: Branches = (
    (Unit(256, (1, 1)), Unit(384, (3, 3), 2, "VALID")),
    (Unit(256, (1, 1)), Unit(288, (3, 3), 2, "VALID")),
    (Unit(256, (1, 1)), Unit(288, (3, 3)), Unit(320, (3, 3), 2, "VALID")),
    (max_pool_3x3,),
)
BLOCK8: Branches = (
    (Unit(192, (1, 1)),),
    (Unit(192, (1, 1)), Unit(224, (1, 3)), Unit(256, (3, 1))),
)
CONV_7B = Unit(1536, (1, 1))


class ConvUnit(nn.Module):
    """Convolution without bias, BatchNorm without scale, ReLU."""

    unit: Unit
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H', W', filters]."""
        conv = Conv(
            self.unit.filters, self.unit.kernel, self.unit.stride, self.unit.padding,
            use_bias=False, dtype=self.dtype, kernel_init=glorot_uniform, name="conv",
        )  # fmt: skip
        norm = BatchNorm(momentum=0.99, epsilon=1e-3, use_scale=False, dtype=self.dtype, name="bn")
        return nn.relu(norm(conv(x), use_running_average=not train))


class Mixed(nn.Module):
    """Parallel branches, concatenated along the channels."""

    branches: Branches
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H', W', sum of the branches' channels]."""
        return _concatenated(x, self.branches, train, self.dtype)


class ResidualBlock(nn.Module):
    """Adds scaled, concatenated branches to the input, followed by ReLU.

    Attributes:
      branches: their concatenation is projected to the input's channels by a 1 x 1 convolution.
      scale: factor of the residual.
      last: omit the ReLU, as the last block8 does.
      dtype: of the computation.
    """

    branches: Branches
    scale: float
    last: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, C]."""
        features = _concatenated(x, self.branches, train, self.dtype)
        up = BiasConv(x.shape[-1], (1, 1), dtype=self.dtype, name="up")
        total = x + self.scale * up(features)
        return total if self.last else relu_of_sum(self, total)


def _concatenated(x: jax.Array, branches: Branches, train: bool, dtype: DTypeLike) -> jax.Array:
    """Concatenates the branches; their units are named `branch1_1`, ..."""
    outputs = [
        _chain(x, branch, f"branch{number}_", train, dtype)
        for number, branch in enumerate(branches, 1)
    ]
    return jnp.concatenate(outputs, axis=-1)


def _chain(
    x: jax.Array, steps: Sequence[Step], name: str, train: bool, dtype: DTypeLike
) -> jax.Array:
    """Applies units and poolings in sequence; the units are named `name`1, `name`2, ..."""
    unit = 0
    for step in steps:
        if isinstance(step, Unit):
            unit += 1
            x = ConvUnit(step, dtype, name=f"{name}{unit}")(x, train)
        else:
            x = step(x)
    return x


class InceptionResNetV2Backbone(nn.Module):
    """The convolutions of InceptionResNetV2.

    Attributes:
      repeats: numbers of block35, block17 and block8.
      dtype: of the computation; parameters and statistics are float32.
      remat: recompute each block's activations in the backward pass instead of storing them.
      shares_blocks: trace equal residual blocks once. Faster, but interceptors and captured
        intermediates see only the first block of each kind.
    """

    repeats: tuple[int, int, int] = (10, 20, 10)
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    shares_blocks: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to features [B, H', W', 1536], 5 x 5 at 224 px."""
        block = wrap_block(ResidualBlock, self.remat, self.shares_blocks)
        blocks35, blocks17, blocks8 = (range(1, count + 1) for count in self.repeats)

        x = _chain(images.astype(self.dtype), STEM, "stem", train, self.dtype)
        x = Mixed(MIXED_5B, self.dtype, name="mixed_5b")(x, train)
        for i in blocks35:
            x = block(BLOCK35, 0.17, False, self.dtype, name=f"block35_{i}")(x, train)
        x = Mixed(MIXED_6A, self.dtype, name="mixed_6a")(x, train)
        for i in blocks17:
            x = block(BLOCK17, 0.10, False, self.dtype, name=f"block17_{i}")(x, train)
        x = Mixed(MIXED_7A, self.dtype, name="mixed_7a")(x, train)
        for i in blocks8:
            last = i == len(blocks8)
            scale = 1.0 if last else 0.20
            x = block(BLOCK8, scale, last, self.dtype, name=f"block8_{i}")(x, train)
        return ConvUnit(CONV_7B, self.dtype, name="conv_7b")(x, train)


class InceptionResNetV2(nn.Module):
    """InceptionResNetV2 with a head of dense layers.

    Attributes:
      classes: number of output classes.
      head_widths: widths of the hidden dense layers.
      dropout: rate after each hidden dense layer.
      pooling: global pooling of the features, "average" or "max".
      repeats: numbers of block35, block17 and block8.
      dtype: of the computation; parameters, statistics and logits are float32.
      remat: as in `InceptionResNetV2Backbone`.
      shares_blocks: as in `InceptionResNetV2Backbone`.
    """

    classes: int
    head_widths: Sequence[int] = (1024, 512, 256)
    dropout: float = 0.3
    pooling: str = "average"
    repeats: tuple[int, int, int] = (10, 20, 10)
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    shares_blocks: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to float32 logits [B, classes]."""
        backbone = InceptionResNetV2Backbone(
            self.repeats, self.dtype, self.remat, self.shares_blocks, name="backbone"
        )
        pooled = global_pool(backbone(images, train), self.pooling)
        return dense_head(pooled, self.head_widths, self.classes, self.dropout, train, self.dtype)
