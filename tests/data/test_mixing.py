"""Tests of mixup and CutMix: labels are mixed in the proportions of the pixels."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from fer_jax.data.augment import OFF
from fer_jax.data.mixing import beta_quantile, mix, unmixed

ROWS, CLASSES = 64, 7
LABELS = np.arange(ROWS, dtype=np.int32) % CLASSES
# Each image has one value, so that mixed pixels show the proportion.
IMAGES = np.broadcast_to(
    np.arange(ROWS, dtype=np.float32)[:, None, None, None], (ROWS, 12, 12, 3)
).copy()


VOTES = np.random.default_rng(0).dirichlet(np.ones(CLASSES), ROWS).astype(np.float32)


def run(own=LABELS, **chances):
    settings = dataclasses.replace(OFF, mixup_alpha=1.0, **chances)
    keys = jax.random.split(jax.random.key(0), ROWS)
    images, labels = jax.jit(lambda x, k: mix(x, own, k, settings))(IMAGES, keys)
    return np.asarray(images), jax.device_get(labels)


def test_disabled_mixing_changes_nothing():
    images, labels = run()
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels.targets(CLASSES), np.eye(CLASSES)[LABELS])
    np.testing.assert_array_equal(labels.main, LABELS)


@pytest.mark.parametrize(
    "chances", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 0.4}]
)
def test_labels_are_mixed_like_the_pixels(chances):
    images, labels = run(**chances)
    targets = np.asarray(labels.targets(CLASSES))
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    partners = np.roll(np.arange(ROWS), 1)
    np.testing.assert_array_equal(labels.second, LABELS[partners])
    own = (images.mean(axis=(1, 2, 3)) - partners) / (np.arange(ROWS) - partners)
    np.testing.assert_allclose(own, labels.share, atol=1e-4)
    np.testing.assert_array_equal(targets[np.arange(ROWS), labels.main], targets.max(axis=1))
    mixed = labels.share < 1
    assert abs(mixed.mean() - sum(chances.values())) < 0.2


@pytest.mark.parametrize("chances", [{}, {"mixup": 0.4, "cutmix": 0.4}])
def test_distributions_are_mixed_like_the_pixels(chances):
    _, mixed = run(VOTES, **chances)
    share, partner = mixed.share[:, None], np.roll(VOTES, 1, axis=0)
    expected = VOTES * share + partner * (1 - share)
    np.testing.assert_allclose(mixed.targets(CLASSES), expected, atol=1e-6)
    larger = np.where(share >= 0.5, VOTES, partner)
    np.testing.assert_array_equal(mixed.main, larger.argmax(axis=1))


def test_cutmix_pastes_one_rectangle_and_mixup_blends():
    pasted, _ = run(cutmix=1.0)
    for row, image in enumerate(pasted):
        foreign = image[..., 0] != row
        rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
        if len(rows):
            assert foreign[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert set(np.unique(image)) <= {row, (row - 1) % ROWS}
    blended, _ = run(mixup=1.0)
    assert np.ptp(blended, axis=(1, 2, 3)).max() == 0


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.5])
def test_shares_are_beta_distributed(alpha):
    drawn = np.asarray(beta_quantile(np.linspace(0, 1, 20_001, dtype=np.float32), alpha))
    assert drawn.min() == 0
    assert drawn.max() == 1
    assert (np.diff(drawn) >= 0).all()
    np.testing.assert_allclose(drawn.mean(), 0.5, atol=1e-3)
    np.testing.assert_allclose(drawn.var(), 1 / (4 * (2 * alpha + 1)), rtol=2e-3)
    fourth = ((drawn - 0.5) ** 4).mean()  # of Beta(a, a): 3 / (16 (2a + 1)(2a + 3))
    np.testing.assert_allclose(fourth, 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3)), rtol=4e-3)


def test_unmixed_labels_are_one_hot():
    np.testing.assert_array_equal(unmixed(LABELS).targets(CLASSES), np.eye(CLASSES)[LABELS])
