"""Random changes of training images, on the device, as one pure function.

Every image has its own key, so what happens to a row depends on (seed, step,
row) alone, never on the number of devices or threads. The geometric changes are
one affine map and one bilinear read per image, whatever their number. Nothing
here runs in evaluation.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far training images are changed; zero switches a change off.

    Attributes:
      flip: probability of a left-right flip.
      rotation: largest rotation either way, in degrees.
      zoom: largest relative change of scale either way; enlarging crops.
      shift: largest move either way along each axis, as a share of the side.
      brightness: largest relative change of all values either way.
      contrast: largest relative change of the distance to the image's mean.
    """

    flip: float = 0.5
    rotation: float = 10.0
    zoom: float = 0.1
    shift: float = 0.06
    brightness: float = 0.2
    contrast: float = 0.2

    @property
    def is_geometric(self) -> bool:
        """Whether any pixel moves other than by the flip."""
        return bool(self.rotation or self.zoom or self.shift)


def augment(images: jax.Array, keys: jax.Array, settings: Augmentation) -> jax.Array:
    """Changes each image at random.

    Args:
      images: uint8[B, H, W, 3].
      keys: one random key per image, key[B].
      settings: the ranges.

    Returns:
      float32[B, H, W, 3] in 0..255.
    """
    return jax.vmap(lambda image, key: _augment_one(image, key, settings))(images, keys)


def _augment_one(image: jax.Array, key: jax.Array, settings: Augmentation) -> jax.Array:
    draws = jax.random.uniform(key, (7,), minval=-1.0, maxval=1.0)
    flip, rotation, zoom, shift_x, shift_y, brightness, contrast = draws
    # A draw in [-1, 1) falls below 2p - 1 with probability p.
    flipped = flip < 2 * settings.flip - 1
    if settings.is_geometric:
        out = _warp(
            image,
            flipped,
            angle=rotation * jnp.deg2rad(settings.rotation),
            scale=jnp.exp(zoom * jnp.log1p(settings.zoom)),
            shift=jnp.stack([shift_y, shift_x]) * settings.shift,
        )
    else:
        out = jnp.where(flipped, image[:, ::-1], image).astype(jnp.float32)
    mean = out.mean()
    out = mean + (out - mean) * (1 + contrast * settings.contrast)
    out = out * (1 + brightness * settings.brightness)
    return jnp.clip(out, 0.0, 255.0)


def _warp(
    image: jax.Array, flipped: jax.Array, angle: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
    """Reads the image through an affine map about its centre; the border is repeated.

    Args:
      image: uint8[H, W, 3].
      flipped: bool scalar.
      angle: radians; scale: above 1 enlarges; shift: (y, x) as shares of the side.

    Returns:
      float32[H, W, 3].
    """
    height, width, channels = image.shape
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y = (jnp.arange(height, dtype=jnp.float32) - centre_y)[:, None]
    x = (jnp.arange(width, dtype=jnp.float32) - centre_x)[None, :]
    x = jnp.where(flipped, -x, x)
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    source_y = jnp.clip(cos * y + sin * x + centre_y - shift[0] * height, 0, height - 1)
    source_x = jnp.clip(cos * x - sin * y + centre_x - shift[1] * width, 0, width - 1)

    top, left = jnp.floor(source_y), jnp.floor(source_x)
    weight_y, weight_x = (source_y - top)[..., None], (source_x - left)[..., None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    bottom, right = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    pixels = image.reshape(height * width, channels)

    def read(row: jax.Array, column: jax.Array) -> jax.Array:
        return pixels[row * width + column].astype(jnp.float32)

    upper = read(top, left) * (1 - weight_x) + read(top, right) * weight_x
    lower = read(bottom, left) * (1 - weight_x) + read(bottom, right) * weight_x
    return upper * (1 - weight_y) + lower * weight_y
