"""Per-image training losses, so that callers can mask and weight them.

Targets are class distributions, float32[B, C]: smoothed and mixed labels are no special
case.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fer_jax.training.recipe import Recipe


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Softmax cross-entropy, float32[B], nats."""
    return optax.softmax_cross_entropy(logits, targets)


def focal(logits: jax.Array, targets: jax.Array, gamma: float) -> jax.Array:
    """Focal loss (Lin et al. 2017, equation 4) of soft targets, float32[B], nats.

    Each class's term is weighted down with its probability; gamma 0 is cross-entropy.
    """
    log_p = jax.nn.log_softmax(logits)
    # Clipped above 0, where the power's derivative is infinite for gamma < 1.
    complement = jnp.maximum(-jnp.expm1(log_p), 1e-6)
    return -(targets * complement**gamma * log_p).sum(axis=-1)


def forward_corrected(logits: jax.Array, targets: jax.Array, noise: float) -> jax.Array:
    """Cross-entropy of labels of which a share is wrong, float32[B], nats.

    Forward correction (Patrini et al. 2017, theorem 2) for wrong labels that are equally often
    each of the other classes: the network learns the classes, and the loss compares the labels
    with what they would be with the noise. Noise 0 is cross-entropy.
    """
    other = noise / (logits.shape[-1] - 1)
    log_kept = jax.nn.log_softmax(logits) + jnp.log1p(-noise - other)
    log_p = jnp.logaddexp(log_kept, jnp.log(other)) if noise else log_kept
    return -(targets * log_p).sum(axis=-1)


def image_losses(logits: jax.Array, targets: jax.Array, recipe: Recipe) -> jax.Array:
    """Returns the loss of each image, whose mean is minimized: float32[B], weighted nats."""
    smoothed = optax.smooth_labels(targets, recipe.label_smoothing)
    if recipe.focal_gamma:
        values = focal(logits, smoothed, recipe.focal_gamma)
    elif recipe.label_noise:
        values = forward_corrected(logits, smoothed, recipe.label_noise)
    else:
        values = cross_entropy(logits, smoothed)
    if recipe.class_weights is None:
        return values
    # Weighted by the unsmoothed targets; a mixed image gets the mean of its classes' weights.
    return values * (targets @ jnp.asarray(recipe.class_weights, jnp.float32))
