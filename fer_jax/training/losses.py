"""What training minimises, per image, so that callers can mask and weigh.

Targets are shares of the classes, float32[B, C], so that smoothed and mixed labels need
nothing of their own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fer_jax.training.recipe import Recipe


def smoothed(targets: jax.Array, smoothing: float) -> jax.Array:
    """float32[B, C]: `smoothing` of each target spread evenly over all classes."""
    return optax.smooth_labels(targets, smoothing)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Softmax cross-entropy, float32[B], nats."""
    return optax.softmax_cross_entropy(logits, targets)


def focal(logits: jax.Array, targets: jax.Array, gamma: float) -> jax.Array:
    """Focal loss (Lin et al. 2017, equation 4) of soft targets, float32[B], nats.

    Each class's term counts the less the surer the network is of it; a gamma of 0 is the
    cross-entropy.
    """
    log_p = jax.nn.log_softmax(logits)
    # Never quite 0: the power's derivative there is infinite where gamma is below 1.
    rest = jnp.maximum(-jnp.expm1(log_p), 1e-6)
    return -(targets * rest**gamma * log_p).sum(axis=-1)


def image_losses(logits: jax.Array, targets: jax.Array, recipe: Recipe) -> jax.Array:
    """What training minimises the mean of, float32[B], nats times the image's weight."""
    shares = smoothed(targets, recipe.label_smoothing)
    if recipe.focal_gamma:
        values = focal(logits, shares, recipe.focal_gamma)
    else:
        values = cross_entropy(logits, shares)
    if recipe.class_weights is None:
        return values
    # By the classes before smoothing: what is spread belongs to no class. Mixed: the mean.
    return values * (targets @ jnp.asarray(recipe.class_weights, jnp.float32))
