"""The dense layers between a network's features and its logits, the same for every network.

Parameters: `head1`, `head2`, ... in the order of the widths, then `head`, whose width is the
number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fer_jax.models.layers.initializers import glorot_uniform


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
    """
    x = features
    for layer, width in enumerate(widths, 1):
        dense = nn.Dense(width, dtype=dtype, kernel_init=glorot_uniform, name=f"head{layer}")
        x = nn.Dropout(dropout, deterministic=not train)(nn.relu(dense(x)))
    # The last layer computes in float32 also in a bfloat16 run: softmax needs the range.
    return nn.Dense(classes, dtype=jnp.float32, kernel_init=glorot_uniform, name="head")(x)
