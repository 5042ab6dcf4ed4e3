"""dlib's face-recognition ResNet, whose published weights are in the public domain (CC0).

Model card. Source: dlib's example dnn_face_recognition_ex.cpp, the network of
dlib_face_recognition_resnet_model_v1.dat (King 2017, trained on 3 million faces of 7,485
people; 99.38 % on LFW). Not among the paper's networks. The backbone has 5,578,272 parameters, and
no statistics: each BatchNorm of its training is an affine layer, a scale and a bias per channel.
The published network has a linear layer of 128 outputs, the face descriptor, where ours has the
head. Evidence: dlib's descriptors of the same images.

A unit is a convolution, an affine layer and ReLU; s2 is stride 2. A block is two 3x3 units plus
its input; the last ReLU follows the sum. A block of stride 2 does not pad its first convolution,
and its input passes a 2x2 average pooling. Where one of the two is smaller, in channels or by a
row and a column, it is filled up with zeros.

| stage  | blocks                 | output at 150 px | parameters |
|--------|------------------------|------------------|------------|
| stem   | 32 7x7 s2, unpadded; max pool 3 s2 | 35 x 35 x 32 | 4,768 |
| layer1 | 3 x 32                 | 35 x 35 x 32     | 55,680     |
| layer2 | 4 x 64, the first s2   | 17 x 17 x 64     | 277,504    |
| layer3 | 3 x 128, the first s2  | 8 x 8 x 128      | 812,544    |
| layer4 | 3 x 256, the first s2  | 4 x 4 x 256      | 3,247,104  |
| layer5 | 1 x 256, s2            | 2 x 2 x 256      | 1,180,672  |
| head   | global average pool, dropout, dense | classes | 257 a class |

Parameters (the names that ported weights use), all under `backbone/` except the head:

    stem                     a unit
    layer1_1 .. layer5_1     unit1, unit2
    head                     {kernel, bias}, beside `backbone`

A unit has the parameters conv/kernel and affine/{scale, bias}.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.conv import Conv
from fer_jax.models.layers.head import pooled_head
from fer_jax.models.layers.initializers import glorot_uniform
from fer_jax.models.layers.pool import max_pool_3x3
from fer_jax.models.layers.residual import relu_of_sum

STEM = 32
LAYERS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Filters and number of blocks of layer1 to layer5."""


class Affine(nn.Module):
    """Multiplies each channel by a scale and adds a bias."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to the same shape."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return x * scale.astype(x.dtype) + bias.astype(x.dtype)


class ConvUnit(nn.Module):
    """Convolution, affine layer, and ReLU if `relu`. Stride 2 comes without padding."""

    filters: int
    kernel: int = 3
    stride: int = 1
    relu: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H', W', filters]."""
        conv = Conv(
            self.filters, (self.kernel, self.kernel), self.stride,
            padding=self.kernel // 2 if self.stride == 1 else 0, use_bias=False,
            dtype=self.dtype, kernel_init=glorot_uniform, name="conv",
        )  # fmt: skip
        x = Affine(name="affine")(conv(x))
        return nn.relu(x) if self.relu else x


class ResidualBlock(nn.Module):
    """Adds the output of two units to the input, followed by ReLU."""

    filters: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, filters], rounded down."""
        residual = ConvUnit(self.filters, 3, self.stride, dtype=self.dtype, name="unit1")(x)
        residual = ConvUnit(self.filters, relu=False, dtype=self.dtype, name="unit2")(residual)
        if self.stride == 2:
            x = nn.avg_pool(x, (2, 2), (2, 2))
        shape = [max(sides) for sides in zip(x.shape[1:], residual.shape[1:], strict=True)]
        return relu_of_sum(self, _fill_up(x, shape) + _fill_up(residual, shape))


def _fill_up(x: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Appends zeros: [B, H, W, C] to [B, *shape]."""
    missing = [(0, side - found) for side, found in zip(shape, x.shape[1:], strict=True)]
    return jnp.pad(x, ((0, 0), *missing)) if any(after for _, after in missing) else x


class FaceResNetBackbone(nn.Module):
    """The convolutions of the face ResNet.

    Attributes:
      dtype: of the computation; parameters are float32.
      remat: recompute each block's activations in the backward pass instead of storing them.
    """

    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps float images [B, H, W, 3] to features [B, H', W', 256], 2 x 2 at 150 px."""
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        x = ConvUnit(STEM, 7, 2, dtype=self.dtype, name="stem")(images.astype(self.dtype))
        x = max_pool_3x3(x)
        for layer, (filters, depth) in enumerate(LAYERS, 1):
            for number in range(1, depth + 1):
                stride = 2 if layer > 1 and number == 1 else 1
                x = block(filters, stride, self.dtype, name=f"layer{layer}_{number}")(x)
        return x


class FaceResNet(nn.Module):
    """dlib's face ResNet with a head of dense layers.

    Attributes:
      classes: number of output classes.
      head_widths: widths of the hidden dense layers.
      dropout: rate on the pooled features and after each hidden dense layer.
      pooling: global pooling of the features, "average" or "max".
      dtype: of the computation; parameters and logits are float32.
      remat: as in `FaceResNetBackbone`.
    """

    classes: int
    head_widths: Sequence[int] = ()
    dropout: float = 0.0
    pooling: str = "average"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to float32 logits [B, classes]."""
        features = FaceResNetBackbone(self.dtype, self.remat, name="backbone")(images)
        return pooled_head(
            features, self.pooling, self.head_widths, self.classes, self.dropout, train, self.dtype
        )
