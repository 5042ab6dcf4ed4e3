"""Random changes of training images, on the device, as one pure function.

Every image has its own key, so what happens to a row depends on (seed, step,
row) alone, never on the number of devices or threads. The geometric changes are
one affine map and one bilinear read per image, whatever their number; blur, values and noise
follow in one pass each at most. Mixing two images is `mixing`'s. Nothing here runs in
evaluation.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.settings import Augmentation

GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
BLUR_REACH = 2.5  # standard deviations that a blur's kernel reaches either way
ERASED_AREA = (0.02, 0.25)  # of the image, at least and at most: Zhong et al. 2020, for RAF-DB
ERASED_ASPECT = 3.3  # of the erased rectangle, either way, at most: the same paper

DRAWS = 18
"""Uniform numbers per image, in the order in which the changes below take them. New ones
are added behind the others, so that these keep their values."""


CHANGES = (
    "flip", "rotation", "zoom", "shift", "blur", "noise", "brightness", "contrast",
    "saturation", "tint", "erase", "mixup", "cutmix",
)  # fmt: skip
"""The fields of `Augmentation` that switch a change on."""

OFF = Augmentation(**dict.fromkeys(CHANGES, 0.0))
"""No change at all."""


def augment(images: jax.Array, keys: jax.Array, settings: Augmentation) -> jax.Array:
    """Changes each image at random.

    Args:
      images: uint8[B, H, W, 3].
      keys: one random key per image, key[B].
      settings: the ranges.

    Returns:
      float32[B, H, W, 3] in 0..255.
    """
    draws = jax.vmap(lambda key: jax.random.uniform(key, (DRAWS,), minval=-1.0, maxval=1.0))(keys)
    soft = images
    for axis in (0, 1) if settings.blur else ():
        blurred = jax.vmap(lambda image, draw, axis=axis: _blur(image, draw, settings.blur, axis))
        soft = _materialised(blurred(soft, draws), images)
    if settings.saturation:
        resaturated = jax.vmap(lambda image, draw: _resaturated(image, draw, settings.saturation))
        soft = _materialised(resaturated(soft, draws), images)

    def rest(image: jax.Array, source: jax.Array, draw: jax.Array, key: jax.Array) -> jax.Array:
        return _changed(image, source.astype(jnp.float32).mean(), draw, key, settings)

    return _materialised(jax.vmap(rest)(soft, images, draws, keys), images)


def _materialised(changed: jax.Array, images: jax.Array) -> jax.Array:
    """`changed` itself, which XLA computes here and once where it runs on CPU.

    Else its fusion computes the warp anew for everything that reads it: default changes and the
    normalisation behind them took 156 ms for 64 images of 100 pixels, and take 9 so. It drops
    optimization barriers before it fuses; what comes out of a conditional it cannot see through.
    """
    if jax.default_backend() != "cpu":
        return changed
    either = images[0, 0, 0, 0] < 128  # nothing that a compiler could know
    return jax.lax.cond(either, lambda x: x, lambda x: jnp.maximum(x, -1e9), changed)


def _changed(
    image: jax.Array, mean: jax.Array, draws: jax.Array, key: jax.Array, settings: Augmentation
) -> jax.Array:
    """What comes behind blur and saturation, of one image [H, W, 3] whose mean was `mean`."""
    flip, rotation, zoom, shift_x, shift_y, brightness, contrast = draws[:7]
    tint, noise, erased = draws[8:11], draws[12], draws[13:]
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
    if settings.contrast:
        out = mean + (out - mean) * (1 + contrast * settings.contrast)
    gain = 1 + brightness * settings.brightness
    out = out * (gain * (1 + tint * settings.tint) if settings.tint else gain)
    if settings.noise:
        out = out + _noise(key, out.shape) * ((noise + 1) / 2 * settings.noise * 255)
    out = jnp.clip(out, 0.0, 255.0)
    return _erase(out, erased, mean, settings.erase) if settings.erase else out


def _blur(image: jax.Array, draws: jax.Array, most: float, axis: int) -> jax.Array:
    """A Gaussian blur along one axis; the border is repeated.

    The kernel's length follows from `most`, the largest deviation as a share of the side, so
    that shapes are static. Before the warp: it commutes with it but for the scale.
    """
    length = image.shape[axis]
    deviation = (draws[11] + 1) / 2 * most * length
    reach = max(1, math.ceil(BLUR_REACH * most * length))
    offsets = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
    # A deviation of a tenth of a pixel leaves the neighbours e**-50: no change.
    kernel = jnp.exp(-0.5 * (offsets / jnp.maximum(deviation, 0.1)) ** 2)
    kernel = kernel / kernel.sum()
    padding = [(reach, reach) if axis == other else (0, 0) for other in range(3)]
    padded = jnp.pad(image, padding, mode="edge")
    taps = (
        weight * jax.lax.slice_in_dim(padded, start, start + length, axis=axis)
        for start, weight in enumerate(kernel)
    )
    return sum(taps, start=jnp.zeros(image.shape, jnp.float32))


def _resaturated(image: jax.Array, draws: jax.Array, most: float) -> jax.Array:
    """Colours nearer to grey or farther from it; the warp behind commutes with it."""
    out = image.astype(jnp.float32)
    # Written out: a sum over an axis of three is slow on CPU.
    red, green, blue = (out[..., channel : channel + 1] for channel in range(3))
    grey = GREY[0] * red + GREY[1] * green + GREY[2] * blue
    return grey + (out - grey) * (1 + draws[7] * most)


def _noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Nearly Gaussian noise of deviation 1: the sum of a word's four bytes, up to 3.45.

    The words are the pixels' numbers scrambled (lowbias32, github.com/skeeto/hash-prospector),
    begun at a random one: JAX's own generator takes ten times as long on a CPU.
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
    """Paints a random rectangle with the image's mean."""
    gate, area, aspect, centre_y, centre_x = draws
    low, high = ERASED_AREA
    side = jnp.sqrt(low + (area + 1) / 2 * (high - low))
    stretch = jnp.exp(aspect * math.log(ERASED_ASPECT) / 2)
    inside = [
        jnp.abs(jnp.linspace(-1.0, 1.0, length) - centre * (1 - share)) <= share
        for length, centre, share in zip(
            image.shape,
            (centre_y, centre_x),
            (side * stretch, side / stretch),
            strict=False,
        )
    ]
    painted = (inside[0][:, None] & inside[1][None, :])[..., None]
    return jnp.where(painted & (gate < 2 * probability - 1), mean, image)


def _warp(
    image: jax.Array, flipped: jax.Array, angle: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
    """Reads the image through an affine map about its centre; the border is repeated.

    Args:
      image: uint8 or float32[H, W, 3].
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
