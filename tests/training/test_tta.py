"""Tests of test-time augmentation: the views, and the mean of their probabilities."""

from __future__ import annotations

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.training import tta

SIZE = 16
IMAGES = np.stack(
    [
        cv2.GaussianBlur(image, (0, 0), 1.5)
        for image in np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    ]
)


def logits_of(images):
    """Logits of a network that reads one pixel only."""
    return jnp.asarray(images, jnp.float32)[:, 3, 2] / 32


@pytest.mark.parametrize(("name", "count"), [("none", 1), ("flip", 2), ("tencrop", 10)])
def test_the_views(name, count):
    views = tta.make_views(jnp.asarray(IMAGES), name)
    assert len(views) == count
    assert all(view.shape == IMAGES.shape for view in views)
    half = count // 2
    for view, mirrored in zip(views[:half], views[-half or count :], strict=True):
        np.testing.assert_array_equal(view[:, :, ::-1], mirrored)
    expected = np.mean([jax.nn.softmax(logits_of(view)) for view in views], axis=0)
    ours = tta.mean_log_probabilities(logits_of, jnp.asarray(IMAGES), name)
    np.testing.assert_allclose(np.exp(ours), expected, rtol=1e-5)
    plain = tta.mean_probabilities(logits_of, jnp.asarray(IMAGES), name)
    np.testing.assert_allclose(plain, expected, rtol=1e-5)


def test_crops_are_the_corners_and_the_center():
    side = 14
    for place, view in zip(
        [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)],
        tta.make_views(jnp.asarray(IMAGES), "tencrop"),
        strict=False,
    ):
        y, x = place
        part = IMAGES[0, y : y + side, x : x + side].astype(np.float32)
        theirs = cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(view[0], theirs, atol=0.5)
