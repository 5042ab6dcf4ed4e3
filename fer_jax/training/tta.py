"""Test-time augmentation: several views of each image, their probabilities averaged.

Off by default; reports name it wherever its figures appear, because a network that is asked
ten times is another classifier than the one that is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

NONE, FLIP, TEN_CROP = "none", "flip", "tencrop"
CROP_SHARE = 0.875
"""Side of a ten-crop's crops, of the image's: 224 of 256 (Krizhevsky et al. 2012), and as many
FER2013 networks are tested (42 of 48)."""

VIEWS: Mapping[str, str] = {
    NONE: "",
    FLIP: "flip: mean of 2 views",
    TEN_CROP: "ten-crop: mean of 10 views",
}
"""What `config.eval.tta` may be, and how a report names it."""


def mean_log_probabilities(
    logits_of: Callable[[jax.Array], jax.Array], images: jax.Array, views: str
) -> jax.Array:
    """Logarithm of the views' mean probabilities, float32[B, C].

    Args:
      logits_of: the network, from images [B, H, W, 3] in 0..255 to logits [B, C].
      images: uint8[B, H, W, 3].
      views: a name of `VIEWS`.
    """
    shown = views_of(images, views)
    logs = [jax.nn.log_softmax(logits_of(view)) for view in shown]
    if len(logs) == 1:
        return logs[0]
    return jax.nn.logsumexp(jnp.stack(logs), axis=0) - jnp.log(float(len(logs)))


def views_of(images: jax.Array, views: str) -> list[jax.Array]:
    """The views of each image, all [B, H, W, 3].

    "flip" is the image and its mirror image; "tencrop" the four corners and the centre, resized
    to the whole, and their mirror images.
    """
    if views == NONE:
        return [images]
    shown = [images] if views == FLIP else _crops(images)
    return [*shown, *(view[:, :, ::-1] for view in shown)]


def _crops(images: jax.Array) -> list[jax.Array]:
    _, height, width, _ = images.shape
    tall, wide = round(height * CROP_SHARE), round(width * CROP_SHARE)
    bottom, right = height - tall, width - wide
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    whole = images.astype(jnp.float32)
    # The network takes one size; enlarging is the only way to give it a part.
    return [
        jax.image.resize(whole[:, y : y + tall, x : x + wide], images.shape, "linear")
        for y, x in corners
    ]
