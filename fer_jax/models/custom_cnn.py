"""The paper's custom CNN, trained on KDEF.

Model card. Source: Borgalli & Surve, section on architectures and its parameter
table (99.143 M). The layers are those of Keras' published `mnist_cnn` example at
224 x 224 x 3 and 6 classes, which has exactly 99,143,494 parameters. Evidence: this
arithmetic match. 99.98 % of the parameters are one dense kernel.

| layer                          | output at 224 px | parameters |
|--------------------------------|------------------|------------|
| conv 3x3, 32, valid            | 222 x 222 x 32   | 896        |
| conv 3x3, 64, valid            | 220 x 220 x 64   | 18,496     |
| max pool 2, dropout 0.25       | 110 x 110 x 64   | 0          |
| dense 128, dropout 0.5         | 128              | 99,123,328 |
| dense (classes)                | classes          | 774        |

Parameters: conv1, conv2, head1, head. With `batch_norm`, which the paper does not use,
the convolutions have no bias, and bn1 and bn2 are between them and their ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.conv import BiasConv
from fer_jax.models.layers.head import dense_head
from fer_jax.models.layers.norm import BatchNorm
from fer_jax.models.layers.pool import max_pool_2x2

POOL_DROPOUT = 0.25  # rate on the pooled features, from the published example


class CustomCNN(nn.Module):
    """The custom CNN.

    Attributes:
      classes: number of output classes.
      head_widths: widths of the hidden dense layers.
      dropout: rate after each hidden dense layer.
      batch_norm: add BatchNorm after each convolution; the paper's parameter count has none.
      dtype: of the computation; parameters and logits are float32.
    """

    classes: int
    head_widths: Sequence[int] = (128,)
    dropout: float = 0.5
    batch_norm: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps float images [B, H, W, 3] to float32 logits [B, classes]."""
        x = images.astype(self.dtype)
        for layer, width in enumerate((32, 64), 1):
            conv = BiasConv(
                width, padding="VALID", use_bias=not self.batch_norm, dtype=self.dtype,
                name=f"conv{layer}",
            )  # fmt: skip
            x = conv(x)
            if self.batch_norm:
                norm = BatchNorm(epsilon=1e-3, dtype=self.dtype, name=f"bn{layer}")
                x = norm(x, use_running_average=not train)
            x = nn.relu(x)
        x = max_pool_2x2(x)
        x = nn.Dropout(POOL_DROPOUT, deterministic=not train)(x)
        x = x.reshape(x.shape[0], -1)
        return dense_head(x, self.head_widths, self.classes, self.dropout, train, self.dtype)
