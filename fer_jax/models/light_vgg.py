"""LightVGG: the small VGG-style network that the paper trains on RAF-DB.

Model card. Source: Borgalli & Surve, section on architectures and its parameter
table (5.391 M). The layers are those of a published network of the same name,
data set, input size, classes and accuracy, which has exactly 5,391,055 parameters
at 100 x 100 x 3 and 7 classes. Evidence: that published twin.

| layer                                     | output at 100 px | parameters |
|-------------------------------------------|------------------|------------|
| conv 3x3, 8; conv 3x3, 8; max pool 2      | 50 x 50 x 8      | 224 + 584  |
| conv 3x3, 16; conv 3x3, 16; max pool 2    | 25 x 25 x 16     | 1,168 + 2,320 |
| dense 512, dropout                        | 512              | 5,120,512  |
| dense 512, dropout                        | 512              | 262,656    |
| dense (classes)                           | classes          | 3,591      |

`widths` replaces 8 and 16; with more widths there are more blocks, conv3_1 and so on.

Parameters: conv1_1, conv1_2, conv2_1, conv2_2, head1, head2, head.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.conv import BiasConv
from fer_jax.models.layers.head import dense_head
from fer_jax.models.layers.pool import max_pool_2x2


class LightVGG(nn.Module):
    """LightVGG.

    Attributes:
      classes: number of output classes.
      widths: number of filters in each block of two convolutions.
      head_widths: widths of the hidden dense layers.
      dropout: rate after each hidden dense layer.
      dtype: of the computation; parameters and logits are float32.
    """

    classes: int
    widths: Sequence[int] = (8, 16)
    head_widths: Sequence[int] = (512, 512)
    dropout: float = 0.7
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to float32 logits [B, classes]."""
        x = images.astype(self.dtype)
        for block, width in enumerate(self.widths, 1):
            for layer in (1, 2):
                conv = BiasConv(width, dtype=self.dtype, name=f"conv{block}_{layer}")
                x = nn.relu(conv(x))
            x = max_pool_2x2(x)
        x = x.reshape(x.shape[0], -1)
        return dense_head(x, self.head_widths, self.classes, self.dropout, train, self.dtype)
