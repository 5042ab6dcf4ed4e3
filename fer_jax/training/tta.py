"""Test-time augmentation: several views of each image, with averaged probabilities.

Off by default. Reports name it next to its figures, because a network that sees ten views of an
image is another classifier than one that sees the image once.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.heads import Heads

NONE, FLIP, TEN_CROP = "none", "flip", "tencrop"
CROP_SHARE = 0.875
"""Side of a ten-crop's crops relative to the image: 224 of 256 (Krizhevsky et al. 2012), and the
usual 42 of 48 for FER2013."""

VIEWS: Mapping[str, str] = {
    NONE: "",
    FLIP: "flip: mean of 2 views",
    TEN_CROP: "ten-crop: mean of 10 views",
}
"""How a report names each of `settings.TTA_VIEWS`."""


def mean_log_probabilities(
    logits_of: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    views: str,
    temperature: float = 1.0,
) -> jax.Array:
    """Returns the logarithm of the views' mean probabilities, float32[B, C], calibrated.

    A temperature divides the mean's logarithm, which for one view
    is the same as dividing the logits, and for several keeps the most probable class.

    Args:
      logits_of: maps images [B, H, W, 3] in 0..255 to logits [B, C].
      images: uint8[B, H, W, 3].
      views: a key of `VIEWS`.
      temperature: above 1 makes probabilities less confident, below 1 more.
    """
    logs = [jax.nn.log_softmax(logits_of(view)) for view in make_views(images, views)]
    mean = logs[0]
    if len(logs) > 1:
        mean = jax.nn.logsumexp(jnp.stack(logs), axis=0) - jnp.log(float(len(logs)))
    return mean if temperature == 1 else jax.nn.log_softmax(mean / temperature)


def mean_probabilities(
    logits_of: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    views: str,
    temperature: float = 1.0,
) -> jax.Array:
    """Returns the views' mean probabilities, float32[B, C]; the arguments are as above."""
    return _mean_softmax((logits_of(view) for view in make_views(images, views)), temperature)


def _mean_softmax(logits: Iterable[jax.Array], temperature: float) -> jax.Array:
    each = [jax.nn.softmax(one) for one in logits]
    mean = functools.reduce(operator.add, each) / np.float32(len(each)) if each[1:] else each[0]
    return mean if temperature == 1 else jax.nn.softmax(jnp.log(mean) / temperature)


def mean_answers(
    outputs_of: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    views: str,
    heads: Heads,
    temperature: float = 1.0,
) -> jax.Array:
    """Returns the views' mean answers of all heads, float32[B, C + E].

    Probabilities of the classes, which the temperature calibrates, and of each unit; valence and
    arousal in -1..1.

    Args:
      outputs_of: maps images [B, H, W, 3] in 0..255 to the network's outputs [B, C + E].
      images: uint8[B, H, W, 3].
      views: a key of `VIEWS`.
      heads: of the network.
      temperature: as above.
    """
    outputs = [outputs_of(view) for view in make_views(images, views)]
    answers = [activated(columns(one, heads.classes, heads.outputs), heads) for one in outputs]
    # The second half are mirror images: what is left there is right in the image.
    half = (len(answers) + 1) // 2
    swap = np.eye(len(heads.names), dtype=np.float32)[:, list(heads.mirrored)]
    upright = [
        *answers[:half],
        *(jnp.matmul(one, swap, precision=jax.lax.Precision.HIGHEST) for one in answers[half:]),
    ]
    mean = functools.reduce(operator.add, upright) / np.float32(len(upright))
    probabilities = _mean_softmax([columns(one, 0, heads.classes) for one in outputs], temperature)
    return jnp.concatenate([probabilities, mean], axis=-1)


def activated(extras: jax.Array, heads: Heads) -> jax.Array:
    """Returns the answers of further heads: sigmoid of units, tanh of valence and arousal.

    Args:
      extras: float32[B, E], columns of the network's last layer.
      heads: of the network.
    """
    units = len(heads.units)
    shares, values = columns(extras, 0, units), columns(extras, units, len(heads.names))
    return jnp.concatenate([jax.nn.sigmoid(shares), jnp.tanh(values)], axis=-1)


def columns(array: jax.Array, first: int, end: int) -> jax.Array:
    """Returns columns of an array [B, K]; can be exported, unlike indexing with a symbolic B."""
    return jax.lax.slice_in_dim(array, first, end, axis=1)


def make_views(images: jax.Array, views: str) -> list[jax.Array]:
    """Returns the views of each image, each [B, H, W, 3].

    "flip" is the image and its mirror image; "tencrop" the four corners and the center, resized
    to the image's size, and their mirror images.
    """
    if views == NONE:
        return [images]
    upright = [images] if views == FLIP else _crops(images)
    return [*upright, *(view[:, :, ::-1] for view in upright)]


def _crops(images: jax.Array) -> list[jax.Array]:
    """Returns the corners and the center, enlarged because the network takes one input size."""
    _, height, width, _ = images.shape
    tall, wide = round(height * CROP_SHARE), round(width * CROP_SHARE)
    bottom, right = height - tall, width - wide
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    whole = images.astype(jnp.float32)
    return [
        jnp.einsum(
            "ry,byxc,sx->brsc", _enlarged(height, y, tall), whole, _enlarged(width, x, wide),
            precision=jax.lax.Precision.HIGHEST,
        )
        for y, x in corners
    ]  # fmt: skip


def _enlarged(size: int, start: int, length: int) -> np.ndarray:
    """Returns a matrix float32[size, size] that enlarges a part of an axis to all of it, linearly.

    Constant, unlike that of `jax.image.resize`, so that it can be exported.
    """
    places = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1) + start
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))
    return weights.astype(np.float32)
