"""Mixup and CutMix: mixes images of a batch, and their labels in the same proportion.

Mixup (Zhang et al. 2018) blends two images, CutMix (Yun et al. 2019) pastes a rectangle of one
into the other. An image's partner is the previous one of the global batch, whose order is random
already: no rows are gathered, and devices exchange one row each.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.settings import Augmentation

_TABLE = 1025  # entries of `beta_quantile`'s table; more make no visible difference


@flax.struct.dataclass
class Labels:
    """Labels of a batch: one or two per image, each a class or a distribution over the classes.

    Attributes:
      first: int32[B], or float32[B, C] whose rows sum to 1.
      second: the partner's; as `first`.
      share: float32[B], weight of `first`; `second` has the rest.
    """

    first: jax.Array
    second: jax.Array
    share: jax.Array

    def targets(self, classes: int) -> jax.Array:
        """Returns float32[B, classes]: the target distributions."""
        share = self.share[:, None]
        first, second = (
            jax.nn.one_hot(label, classes) if label.ndim == 1 else label
            for label in (self.first, self.second)
        )
        return first * share + second * (1 - share)

    @property
    def main(self) -> jax.Array:
        """int32[B]: the class, or the majority, of the image with the larger share."""
        first, second = (
            label if label.ndim == 1 else label.argmax(axis=-1).astype(jnp.int32)
            for label in (self.first, self.second)
        )
        return jnp.where(self.share >= 0.5, first, second)


def unmixed(labels: jax.Array) -> Labels:
    """Returns the labels of unmixed images; `labels` is int32[B] or float32[B, C]."""
    return Labels(labels, labels, jnp.ones(labels.shape[0], jnp.float32))


def mix(
    images: jax.Array, labels: jax.Array, keys: jax.Array, settings: Augmentation
) -> tuple[jax.Array, Labels]:
    """Mixes some images with their partners.

    Args:
      images: float32[B, H, W, 3].
      labels: int32[B], or float32[B, C] whose rows sum to 1.
      keys: one random key per image, key[B].
      settings: probabilities and Beta parameters.

    Returns:
      Images float32[B, H, W, 3] and their labels.
    """
    if not settings.mixes:
        return images, unmixed(labels)
    shape = images.shape[1:3]
    weight = jax.vmap(lambda key: _weight(key, shape, settings))(keys)
    mixed = images * weight + jnp.roll(images, 1, axis=0) * (1 - weight)
    share = weight.mean(axis=(1, 2, 3))
    return mixed, Labels(labels, jnp.roll(labels, 1, axis=0), share)


def mix_extras(extras: jax.Array, labels: Labels, settings: Augmentation) -> jax.Array:
    """Mixes labels of further heads, float32[B, E], as `mix` mixed the images.

    A mixture with an unknown label is unknown, unless nothing of the partner is in it.
    """
    if not settings.mixes:
        return extras
    share = labels.share[:, None]
    mixed = extras * share + jnp.roll(extras, 1, axis=0) * (1 - share)
    return jnp.where(share == 1, extras, mixed)


def _weight(key: jax.Array, shape: tuple[int, ...], settings: Augmentation) -> jax.Array:
    """Returns float32[H, W, 1]: the weight of the image; its partner has the rest."""
    choice, blend_draw, box_draw, *place = jax.random.uniform(jax.random.fold_in(key, 2), (5,))
    weight = jnp.ones((*shape, 1), jnp.float32)
    if settings.mixup:
        blend = beta_quantile(blend_draw, settings.mixup_alpha)
        weight = jnp.where(choice < settings.mixup, blend, weight)
    if settings.cutmix:
        area = beta_quantile(box_draw, settings.cutmix_alpha)
        box = _box(jnp.stack(place), jnp.sqrt(area), shape)
        chosen = (choice >= settings.mixup) & (choice < settings.mixup + settings.cutmix)
        weight = jnp.where(chosen, 1.0 - box, weight)
    return weight


def beta_quantile(share: jax.Array, alpha: float) -> jax.Array:
    """Returns the quantile function of the Beta(alpha, alpha) distribution at `share`, in [0, 1].

    Maps a uniform draw to a Beta draw with a table: `jax.random.beta` contains a loop that takes
    longer to compile than all of the augmentation.
    """
    # On the lower half, substituting x = w**(1 / alpha) / 2 makes the density smooth in w.
    grid = np.linspace(0, 1, _TABLE)
    density = (1 - grid ** (1 / alpha) / 2) ** (alpha - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    below = (below / below[-1] / 2).astype(np.float32)
    lower = jnp.interp(jnp.minimum(share, 1 - share), below, grid.astype(np.float32))
    half = lower ** (1 / alpha) / 2
    return jnp.where(share < 0.5, half, 1 - half)


def _box(center: jax.Array, side: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns float32[H, W, 1]: 1 in a box about `center` (y, x) with this share of each side."""
    inside = [
        jnp.abs((jnp.arange(length) + 0.5) / length - middle) * 2 < side
        for length, middle in zip(shape, center, strict=True)
    ]
    return (inside[0][:, None] & inside[1][None, :])[..., None].astype(jnp.float32)
