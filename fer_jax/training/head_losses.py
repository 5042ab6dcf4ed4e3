"""Training losses of the further heads: action units, and valence and arousal.

Labels that are NaN are unknown and count in neither loss nor gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fer_jax.heads import Heads

_EPSILON = 1e-6
"""Far below any variance of labels; keeps a batch of constant ones from dividing by 0."""


def head_losses(outputs: jax.Array, labels: jax.Array, heads: Heads) -> jax.Array:
    """Returns the sum of the further heads' losses for each image, float32[B].

    The concordance of valence and arousal is one of the batch, so its loss is every image's.

    Args:
      outputs: float32[B, E], of the network's last layer.
      labels: float32[B, E], NaN where unknown.
      heads: of the network.
    """
    units = len(heads.units)
    total = jnp.zeros(outputs.shape[:1], jnp.float32)
    if units:
        total += unit_losses(outputs[:, :units], labels[:, :units])
    if heads.affect:
        values = concordance(jnp.tanh(outputs[:, units:]), labels[:, units:])
        total += 1 - values.mean()
    return total


def unit_losses(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the sigmoid cross-entropy, a mean over each image's known units: float32[B], nats."""
    known = ~jnp.isnan(labels)
    values = optax.sigmoid_binary_cross_entropy(outputs, jnp.where(known, labels, 0.0))
    return (values * known).sum(axis=-1) / jnp.maximum(known.sum(axis=-1), 1)


def concordance(predicted: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the concordance correlation coefficient of each column, float32[E].

    Lin 1989; in -1..1. 0 for a column with fewer than two known labels.

    Args:
      predicted: float32[B, E].
      labels: float32[B, E], NaN where unknown.
    """
    known = ~jnp.isnan(labels)
    count = jnp.maximum(known.sum(axis=0), 1)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.where(known, values, 0.0).sum(axis=0) / count

    labels = jnp.where(known, labels, 0.0)
    centers = mean(predicted), mean(labels)
    first, second = predicted - centers[0], labels - centers[1]
    spread = mean(first**2) + mean(second**2) + (centers[0] - centers[1]) ** 2
    return 2 * mean(first * second) / (spread + _EPSILON)
