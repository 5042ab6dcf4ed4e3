"""Data augmentation of training images, on the device, as one pure function.

Each image has its own random key, so its augmentation depends on (seed, step, row) alone, not on
the number of devices or threads. All geometric changes together are one affine map, read once
with bilinear interpolation. `mixing` has mixup and CutMix. Evaluation uses none of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.registry import REGISTRIES
from fer_jax.settings import Augmentation

GRAY = (0.299, 0.587, 0.114)  # weights of red, green and blue: ITU-R BT.601
BLUR_REACH = 2.5  # radius of the blur kernel in standard deviations
ERASED_AREA = (0.02, 0.25)  # range, as a share of the image: Zhong et al. 2020, for RAF-DB
ERASED_ASPECT = 3.3  # maximum aspect ratio of the erased rectangle, tall or wide: the same paper

DRAWS = 18
"""Uniform random numbers per image, indexed by the functions below. Append new ones: the values
of the others must not change."""

EXTRA_DRAWS = 1000
"""Folded into the keys of a user's augmentations, plus their number: below are the draws here."""

CHANGES = (
    "flip", "rotation", "zoom", "shift", "blur", "noise", "brightness", "contrast",
    "saturation", "tint", "erase", "mixup", "cutmix",
)  # fmt: skip
"""The fields of `Augmentation` that enable a change; 0 disables it."""

_ZEROS: dict[str, Any] = dict.fromkeys(CHANGES, 0.0)
OFF = Augmentation(**_ZEROS)
"""No augmentation."""


def augment(images: jax.Array, keys: jax.Array, settings: Augmentation) -> jax.Array:
    """Augments each image at random.

    Args:
      images: uint8[B, H, W, 3].
      keys: one random key per image, key[B].
      settings: ranges and probabilities.

    Returns:
      float32[B, H, W, 3] in 0..255.
    """
    draws = jax.vmap(lambda key: jax.random.uniform(key, (DRAWS,), minval=-1.0, maxval=1.0))(keys)
    colors = images
    for axis in (0, 1) if settings.blur else ():
        blurred = jax.vmap(lambda image, draw, axis=axis: _blur(image, draw, settings.blur, axis))
        colors = _materialize(blurred(colors, draws), images)
    if settings.saturation:
        saturated = jax.vmap(lambda image, draw: _saturate(image, draw, settings.saturation))
        colors = _materialize(saturated(colors, draws), images)

    def rest(image: jax.Array, source: jax.Array, draw: jax.Array, key: jax.Array) -> jax.Array:
        return _change(image, source.astype(jnp.float32).mean(), draw, key, settings)

    out = _materialize(jax.vmap(rest)(colors, images, draws, keys), images)
    for number, name in enumerate(settings.extra):
        own_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, EXTRA_DRAWS + number)
        out = _materialize(REGISTRIES["augmentation"].find(name)(out, own_keys), images)
    return out


def are_flipped(keys: jax.Array, settings: Augmentation) -> jax.Array:
    """Returns which images `augment` flips with these keys, bool[B]."""
    draws = jax.vmap(lambda key: jax.random.uniform(key, (DRAWS,), minval=-1.0, maxval=1.0))(keys)
    return _is_flipped(draws[:, 0], settings)


def _is_flipped(draw: jax.Array, settings: Augmentation) -> jax.Array:
    # A draw in [-1, 1) falls below 2p - 1 with probability p.
    return draw < 2 * settings.flip - 1


def check_extra(names: Sequence[str]) -> None:
    """Checks the names of `config.augment.extra`.

    Raises:
      UserError: one is not registered.
    """
    for name in names:
        REGISTRIES["augmentation"].find(name)


def _materialize(changed: jax.Array, images: jax.Array) -> jax.Array:
    """Returns `changed`; on CPU, makes XLA compute it once.

    Otherwise fusion recomputes the warp for every operation that reads it: the default
    augmentation and normalization of 64 images of 100 pixels took 156 ms instead of 9. The CPU
    compiler drops optimization barriers before fusion, but does not fuse across a conditional.
    """
    if jax.default_backend() != "cpu":
        return changed
    either = images[0, 0, 0, 0] < 128  # unknown when compiling
    return jax.lax.cond(either, lambda x: x, lambda x: jnp.maximum(x, -1e9), changed)


def _change(
    image: jax.Array, mean: jax.Array, draws: jax.Array, key: jax.Array, settings: Augmentation
) -> jax.Array:
    """Applies all changes except blur and saturation to one image [H, W, 3].

    `mean` is the mean of the original image.
    """
    flip, rotation, zoom, shift_x, shift_y, brightness, contrast = draws[:7]
    tint, noise, erased = draws[8:11], draws[12], draws[13:]
    flipped = _is_flipped(flip, settings)
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
    if settings.contrast:
        out = mean + (out - mean) * (1 + contrast * settings.contrast)
    gain = 1 + brightness * settings.brightness
    out = out * (gain * (1 + tint * settings.tint) if settings.tint else gain)
    if settings.noise:
        out = out + _noise(key, out.shape) * ((noise + 1) / 2 * settings.noise * 255)
    out = jnp.clip(out, 0.0, 255.0)
    return _erase(out, erased, mean, settings.erase) if settings.erase else out


def _blur(image: jax.Array, draws: jax.Array, max_deviation: float, axis: int) -> jax.Array:
    """Applies a Gaussian blur along one axis; border pixels are repeated.

    The kernel has the length of the largest deviation, a share of the side, so that shapes are
    static. Blurring before the warp differs from blurring after it in scale only.
    """
    length = image.shape[axis]
    deviation = (draws[11] + 1) / 2 * max_deviation * length
    reach = max(1, math.ceil(BLUR_REACH * max_deviation * length))
    offsets = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
    # At a deviation of 0.1 pixels the neighbors weigh e**-50: no change.
    kernel = jnp.exp(-0.5 * (offsets / jnp.maximum(deviation, 0.1)) ** 2)
    kernel = kernel / kernel.sum()
    padding = [(reach, reach) if axis == other else (0, 0) for other in range(3)]
    padded = jnp.pad(image, padding, mode="edge")
    taps = (
        weight * jax.lax.slice_in_dim(padded, start, start + length, axis=axis)
        for start, weight in enumerate(kernel)
    )
    return sum(taps, start=jnp.zeros(image.shape, jnp.float32))


def _saturate(image: jax.Array, draws: jax.Array, max_change: float) -> jax.Array:
    """Moves colors toward gray or away from it."""
    out = image.astype(jnp.float32)
    # Written out: a sum over an axis of three is slow on CPU.
    red, green, blue = (out[..., channel : channel + 1] for channel in range(3))
    gray = GRAY[0] * red + GRAY[1] * green + GRAY[2] * blue
    return gray + (out - gray) * (1 + draws[7] * max_change)


def _noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns nearly Gaussian noise of deviation 1: sums of the four bytes of random words.

    Values are within 3.45. The words are hashed pixel indices with a random offset (lowbias32,
    github.com/skeeto/hash-prospector); JAX's generator takes ten times as long on CPU.
    """
    first = jax.random.bits(jax.random.fold_in(key, 1))
    words = (
        jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape) * np.uint32(0x9E3779B9)
        + first
    )
    words = (words ^ words >> 16) * np.uint32(0x7FEB352D)
    words = (words ^ words >> 15) * np.uint32(0x846CA68B)
    words = words ^ words >> 16
    pairs = (words & 0x00FF00FF) + (words >> 8 & 0x00FF00FF)
    total = (pairs & 0xFFFF) + (pairs >> 16)
    deviation = math.sqrt(4 * (256**2 - 1) / 12)
    return (total.astype(jnp.float32) - 4 * 127.5) / deviation


def _erase(image: jax.Array, draws: jax.Array, mean: jax.Array, probability: float) -> jax.Array:
    """Fills a random rectangle with the image's mean."""
    gate, area, aspect, center_y, center_x = draws
    low, high = ERASED_AREA
    side = jnp.sqrt(low + (area + 1) / 2 * (high - low))
    stretch = jnp.exp(aspect * math.log(ERASED_ASPECT) / 2)
    inside = [
        jnp.abs(jnp.linspace(-1.0, 1.0, length) - center * (1 - share)) <= share
        for length, center, share in zip(
            image.shape,
            (center_y, center_x),
            (side * stretch, side / stretch),
            strict=False,
        )
    ]
    erased = (inside[0][:, None] & inside[1][None, :])[..., None]
    return jnp.where(erased & (gate < 2 * probability - 1), mean, image)


def _warp(
    image: jax.Array, flipped: jax.Array, angle: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
    """Applies an affine map about the image center; border pixels are repeated.

    Args:
      image: uint8 or float32[H, W, 3].
      flipped: bool scalar.
      angle: radians.
      scale: above 1 enlarges.
      shift: (y, x), as shares of the sides.

    Returns:
      float32[H, W, 3].
    """
    height, width, channels = image.shape
    center_y, center_x = (height - 1) / 2, (width - 1) / 2
    y = (jnp.arange(height, dtype=jnp.float32) - center_y)[:, None]
    x = (jnp.arange(width, dtype=jnp.float32) - center_x)[None, :]
    x = jnp.where(flipped, -x, x)
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    source_y = jnp.clip(cos * y + sin * x + center_y - shift[0] * height, 0, height - 1)
    source_x = jnp.clip(cos * x - sin * y + center_x - shift[1] * width, 0, width - 1)

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
