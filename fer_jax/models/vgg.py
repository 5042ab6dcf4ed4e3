"""VGG16 with the paper's head, trained on RaFD.

Model card. Source: Borgalli & Surve, section on architectures and its parameter table
(15.244 M). The backbone is configuration D of Simonyan & Zisserman 2015 without its
dense layers, as Keras and torchvision publish it with ImageNet weights. The network has
exactly 15,244,104 parameters at 8 classes; no other plausible head gives this count.
Evidence: published backbone, arithmetic match of the head. The paper does not state how
the features are pooled (average by default here), whether the head has dropout, or
whether the backbone is fine-tuned.

| layer                        | output at 224 px | parameters        |
|------------------------------|------------------|-------------------|
| 2 x conv 3x3, 64; max pool 2 | 112 x 112 x 64   | 38,720            |
| 2 x conv 3x3, 128; max pool 2 | 56 x 56 x 128   | 221,440           |
| 3 x conv 3x3, 256; max pool 2 | 28 x 28 x 256   | 1,475,328         |
| 3 x conv 3x3, 512; max pool 2 | 14 x 14 x 512   | 5,899,776         |
| 3 x conv 3x3, 512; max pool 2 | 7 x 7 x 512     | 7,079,424         |
| global average pool          | 512              | 0                 |
| 2 x dense 512, dropout       | 512              | 262,656 + 262,656 |
| dense (classes)              | classes          | 4,104             |

Parameters in the order of the layers (the names that ported weights use):

    backbone/block1_conv1/{kernel, bias}, block1_conv2, block2_conv1, ..., block5_conv3
    head1/{kernel, bias}, head2, head
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.conv import BiasConv
from fer_jax.models.layers.head import dense_head
from fer_jax.models.layers.pool import global_pool, max_pool_2x2


class VGGBackbone(nn.Module):
    """The convolutions of a VGG network.

    Attributes:
      widths: number of filters in each block.
      depths: number of convolutions in each block.
      dtype: of the computation; parameters are float32.
      remat: recompute each block's activations in the backward pass instead of storing them.
    """

    widths: Sequence[int] = (64, 128, 256, 512, 512)
    depths: Sequence[int] = (2, 2, 3, 3, 3)
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps float images [B, H, W, 3] to features [B, H // 32, W // 32, 512]."""
        x = images.astype(self.dtype)
        block = nn.remat(_block, static_argnums=(2, 3, 4)) if self.remat else _block
        for number, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True), 1):
            x = block(self, x, number, width, depth)
        return x


def _block(backbone: VGGBackbone, x: jax.Array, number: int, width: int, depth: int) -> jax.Array:
    for layer in range(1, depth + 1):
        conv = BiasConv(width, dtype=backbone.dtype, name=f"block{number}_conv{layer}")
        x = nn.relu(conv(x))
    return max_pool_2x2(x)


class VGG16(nn.Module):
    """VGG16 with a head of dense layers.

    Attributes:
      classes: number of output classes.
      head_widths: widths of the hidden dense layers.
      dropout: rate after each hidden dense layer.
      pooling: global pooling of the features, "average" or "max".
      dtype: of the computation; parameters and logits are float32.
      remat: as in `VGGBackbone`.
    """

    classes: int
    head_widths: Sequence[int] = (512, 512)
    dropout: float = 0.5
    pooling: str = "average"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to float32 logits [B, classes]."""
        features = VGGBackbone(dtype=self.dtype, remat=self.remat, name="backbone")(images)
        pooled = global_pool(features, self.pooling)
        return dense_head(pooled, self.head_widths, self.classes, self.dropout, train, self.dtype)
