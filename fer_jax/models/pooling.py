"""Max pooling in the form whose gradient is fast where the network runs.

XLA lowers the gradient of a windowed maximum to select-and-scatter, which on
CPU costs more than the convolutions around it; a maximum over a reshaped array
has an elementwise gradient. Values are equal; on ties within a window the
gradient is shared among the tied pixels instead of given to the first one.
"""

from __future__ import annotations

import flax.linen as nn
import jax


def max_pool_2x2(images: jax.Array) -> jax.Array:
    """2 x 2 max pooling with stride 2, valid: [B, H, W, C] to [B, H // 2, W // 2, C]."""
    if jax.default_backend() != "cpu":
        return nn.max_pool(images, window_shape=(2, 2), strides=(2, 2))
    batch, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    windows = images[:, : rows * 2, : columns * 2].reshape(batch, rows, 2, columns, 2, channels)
    return windows.max(axis=(2, 4))
