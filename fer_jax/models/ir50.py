"""IR-50, a residual network for face recognition, whose weights FER networks often start from.

Model card. Source: IR_50 of backbone/model_irse.py of face.evoLVe (Zhao 2019), with the residual
unit of ArcFace (Deng et al. 2019, section 3.1). Not among the paper's networks. The published
network ends with a linear layer of the flattened 7 x 7 features, the face descriptor, where ours
has global pooling and the head; it takes images of 112 pixels, ours of any size. The backbone has
30,728,384 parameters and 25,344 statistics. Evidence: the features of PyTorch modules with the
same weights.

A block is BatchNorm, a 3x3 convolution, PReLU, a 3x3 convolution and BatchNorm, plus its input;
s2 is stride 2, in the second convolution. No activation follows the sum. Where the number of
channels changes, the input passes a 1x1 convolution of the same stride and BatchNorm; elsewhere
a stride of 2 takes every second pixel of it. Convolutions have no bias.

| stage  | blocks                                | output at 112 px | parameters |
|--------|---------------------------------------|------------------|------------|
| stem   | 64 3x3, BatchNorm, PReLU              | 112 x 112 x 64   | 1,920      |
| layer1 | 3 x 64, the first s2                  | 56 x 56 x 64     | 222,144    |
| layer2 | 4 x 128, the first s2                 | 28 x 28 x 128    | 1,116,800  |
| layer3 | 14 x 256, the first s2                | 14 x 14 x 256    | 16,271,104 |
| layer4 | 3 x 512, the first s2                 | 7 x 7 x 512      | 13,115,392 |
| norm   | BatchNorm                             | 7 x 7 x 512      | 1,024      |
| head   | global average pool, dropout, dense   | classes          | 513 a class |

Parameters (the names that ported weights use), all under `backbone/` except the head:

    stem                     conv, bn, prelu
    layer1_1 .. layer4_3     bn1, conv1, prelu, conv2, bn2; shortcut_conv, shortcut_bn
    norm                     {scale, bias}, and the statistics {mean, var}, as every bn
    head                     {kernel, bias}, beside `backbone`
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.conv import Conv
from fer_jax.models.layers.head import pooled_head
from fer_jax.models.layers.initializers import glorot_uniform
from fer_jax.models.layers.norm import BatchNorm
from fer_jax.models.layers.residual import wrap_block

WIDTHS = (64, 128, 256, 512)
"""Filters of layer1 to layer4; the stem has as many as layer1."""
DEPTHS = (3, 4, 14, 3)
"""Published number of blocks of each."""

_norm = functools.partial(BatchNorm, momentum=0.9, epsilon=1e-5)


def _conv(filters: int, kernel: int, stride: int, dtype: DTypeLike, name: str) -> nn.Module:
    return Conv(
        filters, (kernel, kernel), stride, padding=kernel // 2, use_bias=False, dtype=dtype,
        kernel_init=glorot_uniform, name=name,
    )  # fmt: skip


class PReLU(nn.Module):
    """The identity for positive numbers; negative ones are multiplied by their channel's slope."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to the same shape."""
        slope = self.param("slope", nn.initializers.constant(0.25), x.shape[-1:])
        return nn.relu(x) - nn.relu(-x) * slope.astype(x.dtype)


class Stem(nn.Module):
    """The first convolution."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, 3] to [B, H, W, 64]."""
        x = _conv(WIDTHS[0], 3, 1, self.dtype, "conv")(x)
        x = _norm(dtype=self.dtype, name="bn")(x, use_running_average=not train)
        return PReLU(name="prelu")(x)


class ResidualBlock(nn.Module):
    """Adds the output of two convolutions to the input."""

    filters: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, filters], rounded up."""

        def norm(x: jax.Array, name: str) -> jax.Array:
            return _norm(dtype=self.dtype, name=name)(x, use_running_average=not train)

        residual = _conv(self.filters, 3, 1, self.dtype, "conv1")(norm(x, "bn1"))
        residual = PReLU(name="prelu")(residual)
        residual = norm(_conv(self.filters, 3, self.stride, self.dtype, "conv2")(residual), "bn2")
        if x.shape[-1] == self.filters:
            # As a pooling, because strided slices cannot be exported to ONNX.
            return nn.avg_pool(x, (1, 1), (self.stride, self.stride)) + residual
        shortcut = _conv(self.filters, 1, self.stride, self.dtype, "shortcut_conv")(x)
        return norm(shortcut, "shortcut_bn") + residual


class IR50Backbone(nn.Module):
    """The convolutions of IR-50.

    Attributes:
      depths: number of blocks in each layer.
      dtype: of the computation; parameters and statistics are float32.
      remat: recompute each block's activations in the backward pass instead of storing them.
      shares_blocks: as in `resnet.ResNetBackbone`.
    """

    depths: Sequence[int] = DEPTHS
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    shares_blocks: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to features [B, H', W', 512], 7 x 7 at 112 px."""
        block = wrap_block(ResidualBlock, self.remat, self.shares_blocks)
        x = Stem(self.dtype, name="stem")(images.astype(self.dtype), train)
        for layer, (filters, depth) in enumerate(zip(WIDTHS, self.depths, strict=True), 1):
            for number in range(1, depth + 1):
                stride = 2 if number == 1 else 1
                x = block(filters, stride, self.dtype, name=f"layer{layer}_{number}")(x, train)
        return _norm(dtype=self.dtype, name="norm")(x, use_running_average=not train)


class IR50(nn.Module):
    """IR-50 with a head of dense layers.

    Attributes:
      classes: number of output classes.
      head_widths: widths of the hidden dense layers.
      dropout: rate on the pooled features and after each hidden dense layer.
      pooling: global pooling of the features, "average" or "max".
      depths: as in `IR50Backbone`; published weights fit the default only.
      dtype: of the computation; parameters, statistics and logits are float32.
      remat: as in `IR50Backbone`.
      shares_blocks: as in `IR50Backbone`.
    """

    classes: int
    head_widths: Sequence[int] = ()
    dropout: float = 0.0
    pooling: str = "average"
    depths: Sequence[int] = DEPTHS
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    shares_blocks: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to float32 logits [B, classes]."""
        backbone = IR50Backbone(
            self.depths, self.dtype, self.remat, self.shares_blocks, name="backbone"
        )
        features = backbone(images, train)
        return pooled_head(
            features, self.pooling, self.head_widths, self.classes, self.dropout, train, self.dtype
        )
