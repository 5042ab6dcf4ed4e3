"""What training minimises, per image, so that callers can mask and weigh."""

from __future__ import annotations

import jax
import optax


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Softmax cross-entropy with label smoothing.

    Args:
      logits: float32[B, C].
      labels: int32[B].
      smoothing: share of the target probability spread over all classes, in [0, 1).

    Returns:
      float32[B], nats.
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)
