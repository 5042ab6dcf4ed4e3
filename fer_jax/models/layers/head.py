"""The classifier head of every network: dense layers from features to logits.

Parameters: `head1`, `head2`, ... for the hidden layers, then `head` for the logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.initializers import glorot_uniform
from fer_jax.models.layers.pool import global_pool


def dense_head(
    features: jax.Array,
    widths: Sequence[int],
    classes: int,
    dropout: float,
    train: bool,
    dtype: DTypeLike,
) -> jax.Array:
    """Maps features [B, F] to float32 logits [B, classes]; call it in a compact method.

    Each hidden layer is a dense layer, ReLU and dropout.

    Args:
      features: [B, F].
      widths: of the hidden layers.
      classes: number of classes.
      dropout: rate after each hidden layer.
      train: whether to apply dropout.
      dtype: of the hidden layers' computation.
    """
    x = features
    for layer, width in enumerate(widths, 1):
        dense = nn.Dense(width, dtype=dtype, kernel_init=glorot_uniform, name=f"head{layer}")
        x = nn.Dropout(dropout, deterministic=not train)(nn.relu(dense(x)))
    # float32 even in a bfloat16 run: softmax needs the precision.
    return nn.Dense(classes, dtype=jnp.float32, kernel_init=glorot_uniform, name="head")(x)


def pooled_head(
    features: jax.Array,
    pooling: str,
    widths: Sequence[int],
    classes: int,
    dropout: float,
    train: bool,
    dtype: DTypeLike,
) -> jax.Array:
    """`dense_head` of feature maps [B, H, W, C], pooled by `global_pool`, with dropout of both."""
    pooled = nn.Dropout(dropout, deterministic=not train)(global_pool(features, pooling))
    return dense_head(pooled, widths, classes, dropout, train, dtype)
