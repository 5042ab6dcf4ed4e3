"""Augmentation: each change does what its field says, row by row, against OpenCV."""

from __future__ import annotations

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.data import augment as module
from fer_jax.data.augment import OFF, Augmentation, augment

ROWS = 64


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (ROWS, 24, 24, 3), np.uint8)
    return np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in noise])


def run(images, settings, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(images))
    return np.asarray(jax.jit(lambda x, k: augment(x, k, settings))(images, keys))


def test_everything_off_changes_nothing(images):
    np.testing.assert_array_equal(run(images, OFF), images.astype(np.float32))


@pytest.mark.parametrize(("probability", "low", "high"), [(0, 0, 0), (0.5, 0.3, 0.7), (1, 1, 1)])
@pytest.mark.parametrize("rotation", [0, 1e-6])  # the plain path and the warp
def test_flip_mirrors_the_given_share(images, probability, low, high, rotation):
    out = run(images, dataclasses.replace(OFF, flip=probability, rotation=rotation))
    mirrored = [np.abs(o - i[:, ::-1]).max() < 0.1 for o, i in zip(out, images, strict=True)]
    same = [np.abs(o - i).max() < 0.1 for o, i in zip(out, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert low <= np.mean(mirrored) <= high


@pytest.mark.parametrize(
    ("angle", "scale", "shift"),
    [(20, 1, (0, 0)), (0, 1.3, (0, 0)), (0, 1, (0.1, -0.2)), (-15, 0.8, (0.05, 0.1))],
)
def test_warp_agrees_with_opencv(images, angle, scale, shift):
    image = images[0]
    ours = module._warp(
        jnp.asarray(image),
        jnp.asarray(False),
        jnp.deg2rad(float(angle)),
        jnp.asarray(float(scale)),
        jnp.asarray(shift, jnp.float32),
    )
    matrix = cv2.getRotationMatrix2D((11.5, 11.5), angle, scale)
    matrix[:, 2] += matrix[:, :2] @ (np.array(shift[::-1]) * 24)
    theirs = cv2.warpAffine(
        image.astype(np.float32), matrix, (24, 24), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    # OpenCV rounds positions to 1/32 pixel.
    assert np.abs(ours - theirs).max() < 4


@pytest.mark.parametrize("field", ["brightness", "contrast"])
def test_values_move_within_the_range(images, field):
    soft = (images // 4 + 96).astype(np.uint8)  # far from 0 and 255, so that nothing clips
    out = run(soft, dataclasses.replace(OFF, **{field: 0.2}))
    if field == "brightness":
        ratio = out.mean((1, 2, 3)) / soft.mean((1, 2, 3))
    else:
        ratio = out.std((1, 2, 3)) / soft.std((1, 2, 3))
        np.testing.assert_allclose(out.mean((1, 2, 3)), soft.mean((1, 2, 3)), rtol=1e-4)
    assert 0.8 <= ratio.min() < 0.85
    assert 1.15 < ratio.max() <= 1.2


def test_a_row_depends_on_its_own_key_only(images):
    keys = jax.random.split(jax.random.key(3), ROWS)
    changed = jax.jit(lambda x, k: augment(x, k, Augmentation()))
    whole, part = changed(images, keys), changed(images[10:12], keys[10:12])
    np.testing.assert_allclose(whole[10:12], part, atol=1e-3)
    assert not np.allclose(run(images, Augmentation(), 0), run(images, Augmentation(), 1))
