"""ResNet-18 and ResNet-50, on which most published results for RAF-DB and FER2013 are built.

Also Caffe's ResNet-50 and SENet-50, in which VGGFace2's face-recognition weights are published.

Model card. Source: He et al. 2016, table 1, with the strides of torchvision and timm
(version 1.5: a bottleneck strides in its 3x3 convolution, not in its first 1x1), so that
their weights fit. Not among the paper's networks. At 1000 classes they have 11,689,512 and
25,557,032 parameters, as published, and 9,600 and 53,120 BatchNorm statistics; at 7 classes
11,180,103 and 23,522,375 parameters. Evidence: published networks with the same features.

A unit is a convolution without bias, padded by half its kernel, BatchNorm and ReLU; s2 is
stride 2. A block is the units in brackets plus its input; if their shapes differ, the input
passes a 1x1 unit of the same stride. The last unit's ReLU follows the sum.

| stage  | ResNet-18              | parameters | ResNet-50                       | parameters | at 224 px |
|--------|------------------------|------------|---------------------------------|------------|-----------|
| stem   | 64 7x7 s2; max pool 3 s2 | 9,536    | the same                        | 9,536      | 56 x 56   |
| layer1 | 2 x [64 3x3, 64 3x3]   | 147,968    | 3 x [64 1x1, 64 3x3, 256 1x1]   | 215,808    | 56 x 56   |
| layer2 | 2 x [128 3x3, 128 3x3] | 525,568    | 4 x [128 1x1, 128 3x3, 512 1x1] | 1,219,584  | 28 x 28   |
| layer3 | 2 x [256 3x3, 256 3x3] | 2,099,712  | 6 x [256 1x1, 256 3x3, 1024 1x1] | 7,098,368 | 14 x 14   |
| layer4 | 2 x [512 3x3, 512 3x3] | 8,393,728  | 3 x [512 1x1, 512 3x3, 2048 1x1] | 14,964,736 | 7 x 7    |
| head   | global average pool, dropout, dense | 513 a class | the same           | 2,049 a class | classes |

The first 3x3 unit of layer2, layer3 and layer4 has stride 2. With `small_stem` the stem is
64 3x3 of stride 1 without pooling (1,856 parameters), as is usual for training from scratch
on images of 32 to 64 pixels. `widths` replaces 64, 128, 256 and 512, the stem's 64 included.

Parameters (the names that ported weights use), all under `backbone/` except the head:

    stem                               a unit
    layer1_1 .. layer4_2 or layer4_3   unit1, unit2, (unit3); shortcut if the shapes differ
    head                               {kernel, bias}, beside `backbone`

A unit has the parameters conv/kernel and bn/{scale, bias}, and the statistics bn/{mean, var}.

`ResNet50Caffe` has the same parameters. As in He et al.'s own version, a bottleneck strides in its
first 1x1 unit, and the pooling is not padded at the start. `SENet50` (Hu et al. 2018) is
`ResNet50Caffe` whose blocks end with `excitation`: each channel is multiplied by a sigmoid of two
dense layers, squeeze and excite ({kernel, bias}), of the channels' averages, before the sum. The
hidden layer has a sixteenth of the channels. It has 26,053,367 parameters at 7 classes. Source of
both: models/resnet.py and models/senet.py of VGGFace2-pytorch (cydonia999), converted from the
authors' Caffe files (Cao et al. 2018).
"""  # noqa: E501

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.conv import Conv
from fer_jax.models.layers.head import pooled_head
from fer_jax.models.layers.initializers import glorot_uniform
from fer_jax.models.layers.norm import BatchNorm
from fer_jax.models.layers.pool import max_pool_3x3
from fer_jax.models.layers.residual import relu_of_sum, wrap_block

WIDTHS = (64, 128, 256, 512)
"""Published filters of layer1 to layer4; a bottleneck outputs four times as many."""


class Unit(NamedTuple):
    """A unit's number of filters, kernel size and stride."""

    filters: int
    kernel: int
    stride: int = 1


Units = tuple[Unit, ...]


def basic(width: int, stride: int) -> Units:
    """Returns the units of a ResNet-18 block."""
    return Unit(width, 3, stride), Unit(width, 3)


def bottleneck(width: int, stride: int, is_caffe: bool = False) -> Units:
    """Returns the units of a ResNet-50 block."""
    first, second = (stride, 1) if is_caffe else (1, stride)
    return Unit(width, 1, first), Unit(width, 3, second), Unit(4 * width, 1)


class ConvUnit(nn.Module):
    """Convolution without bias, BatchNorm, and ReLU if `relu`."""

    unit: Unit
    relu: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, filters], rounded up."""
        filters, kernel, stride = self.unit
        # Not "SAME", which pads stride 2 on one side only: published weights expect this padding.
        conv = Conv(
            filters, (kernel, kernel), stride, padding=kernel // 2, use_bias=False,
            dtype=self.dtype, kernel_init=glorot_uniform, name="conv",
        )  # fmt: skip
        norm = BatchNorm(momentum=0.9, epsilon=1e-5, dtype=self.dtype, name="bn")
        x = norm(conv(x), use_running_average=not train)
        return nn.relu(x) if self.relu else x


class Excitation(nn.Module):
    """Multiplies each channel by a weight that depends on the averages of all (Hu et al. 2018)."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to the same shape."""
        channels = x.shape[-1]
        dense = functools.partial(
            Conv, kernel_size=(1, 1), dtype=self.dtype, kernel_init=glorot_uniform
        )
        hidden = dense(max(channels // 16, 1), name="squeeze")(x.mean((1, 2), keepdims=True))
        return x * nn.sigmoid(dense(channels, name="excite")(nn.relu(hidden)))


class ResidualBlock(nn.Module):
    """Adds the output of its units to the input, followed by ReLU."""

    units: Units
    dtype: DTypeLike = jnp.float32
    has_excitation: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H', W', filters of the last unit]."""
        residual = x
        for number, unit in enumerate(self.units, 1):
            relu = number < len(self.units)
            residual = ConvUnit(unit, relu, self.dtype, name=f"unit{number}")(residual, train)
        if self.has_excitation:
            residual = Excitation(self.dtype, name="excitation")(residual)
        if residual.shape != x.shape:
            stride = max(unit.stride for unit in self.units)
            unit = Unit(residual.shape[-1], 1, stride)
            x = ConvUnit(unit, False, self.dtype, name="shortcut")(x, train)
        return relu_of_sum(self, x + residual)


class ResNetBackbone(nn.Module):
    """The convolutions of a ResNet.

    Attributes:
      depths: number of blocks in each layer.
      has_bottlenecks: use the blocks of ResNet-50, else those of ResNet-18.
      small_stem: start with a 3x3 convolution of stride 1 and no pooling.
      widths: filters of each layer; the stem has as many as the first.
      dtype: of the computation; parameters and statistics are float32.
      remat: recompute each block's activations in the backward pass instead of storing them.
      shares_blocks: trace equal blocks once. Faster, but interceptors and captured
        intermediates see only the first block of each kind.
      is_caffe: with the strides of the bottlenecks and the pooling of Caffe's files.
      has_excitation: end the units of each block with `Excitation`.
    """

    depths: Sequence[int]
    has_bottlenecks: bool
    small_stem: bool = False
    widths: Sequence[int] = WIDTHS
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    shares_blocks: bool = False
    is_caffe: bool = False
    has_excitation: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to features [B, H', W', 512 or 2048], 7 x 7 at 224 px.

        Other `widths` change the number of channels.
        """
        block = wrap_block(ResidualBlock, self.remat, self.shares_blocks)
        stem = Unit(self.widths[0], 3) if self.small_stem else Unit(self.widths[0], 7, 2)

        x = ConvUnit(stem, dtype=self.dtype, name="stem")(images.astype(self.dtype), train)
        if not self.small_stem:
            # Caffe rounds the size up: the last window may exceed the map by a pixel.
            x = max_pool_3x3(x, (0, 1) if self.is_caffe else (1, 1))
        for layer, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True), 1):
            for number in range(1, depth + 1):
                stride = 2 if layer > 1 and number == 1 else 1
                units = basic(width, stride)
                if self.has_bottlenecks:
                    units = bottleneck(width, stride, self.is_caffe)
                name = f"layer{layer}_{number}"
                x = block(units, self.dtype, self.has_excitation, name=name)(x, train)
        return x


class ResNet(nn.Module):
    """A ResNet with its classifier.

    Attributes:
      classes: number of output classes.
      head_widths: widths of the hidden dense layers; the published networks have none.
      dropout: rate on the pooled features and after each hidden dense layer; 0 in the
        published networks.
      pooling: global pooling of the features, "average" or "max".
      small_stem: for small images, as in `ResNetBackbone`; published weights do not fit.
      widths: as in `ResNetBackbone`; published weights fit the default only.
      depths: number of blocks in each layer.
      dtype: of the computation; parameters, statistics and logits are float32.
      remat: as in `ResNetBackbone`.
      shares_blocks: as in `ResNetBackbone`.
    """

    classes: int
    head_widths: Sequence[int] = ()
    dropout: float = 0.0
    pooling: str = "average"
    small_stem: bool = False
    widths: Sequence[int] = WIDTHS
    depths: Sequence[int] = (2, 2, 2, 2)
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    shares_blocks: bool = False

    has_bottlenecks: ClassVar[bool] = False
    is_caffe: ClassVar[bool] = False
    has_excitation: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths):
            raise ValueError(
                f"expected {len(self.depths)} widths for a ResNet, one a layer, found "
                f"{len(self.widths)}: {', '.join(map(str, self.widths))}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to float32 logits [B, classes]."""
        backbone = ResNetBackbone(
            self.depths, self.has_bottlenecks, self.small_stem, self.widths, self.dtype,
            self.remat, self.shares_blocks, self.is_caffe, self.has_excitation, name="backbone",
        )  # fmt: skip
        features = backbone(images, train)
        return pooled_head(
            features, self.pooling, self.head_widths, self.classes, self.dropout, train, self.dtype
        )


class ResNet18(ResNet):
    """ResNet-18."""


class ResNet50(ResNet):
    """ResNet-50."""

    depths: Sequence[int] = (3, 4, 6, 3)

    has_bottlenecks: ClassVar[bool] = True


class ResNet50Caffe(ResNet50):
    """ResNet-50 with the strides and the pooling of Caffe's files."""

    is_caffe: ClassVar[bool] = True


class SENet50(ResNet50Caffe):
    """`ResNet50Caffe` with squeeze and excitation."""

    has_excitation: ClassVar[bool] = True
