"""Planted label errors are counted and found, as cleanlab counts and finds them."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.experiments.label_errors import find_label_errors


def draw(count: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True classes, labels of which a share is the next class, and probabilities."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, count)
    labels = np.where(rng.random(count) < noise, (true + 1) % 3, true)
    logits = np.eye(3)[true] * 2 + rng.normal(0, 0.8, (count, 3))
    shares = np.exp(logits)
    return true, labels, shares / shares.sum(axis=1, keepdims=True)


def test_it_agrees_with_cleanlab():
    """The expected values are those of cleanlab 2.9.0: `compute_confident_joint` and
    `find_label_issues(..., return_indices_ranked_by="normalized_margin")`."""
    _, labels, probabilities = draw(60, 0.25, seed=3)
    found = find_label_errors(labels, probabilities)
    # cleanlab rounds.
    np.testing.assert_allclose(found.joint, [[18, 0, 7], [4, 15, 0], [0, 4, 12]], atol=0.5)
    assert found.ranked.tolist() == [30, 37, 56, 44, 4, 59, 21, 35, 1, 9, 50, 17, 26, 29]


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_planted_errors_are_counted_and_found(noise):
    true, labels, probabilities = draw(6000, noise, seed=1)
    found = find_label_errors(labels, probabilities)
    np.testing.assert_allclose(found.joint.sum(axis=1), np.bincount(labels))
    wrong = labels != true
    estimated = found.wrong.sum() / len(labels)
    # The network is wrong as well, for about one image in twelve of each class.
    assert noise - 0.02 < estimated < noise + 0.06
    if noise:
        top = found.ranked[: wrong.sum() // 2]
        assert wrong[top].mean() > 0.95
        # Errors go to the next class alone: given label 1 is mostly true class 0.
        assert found.joint[1, 0] > 3 * found.joint[1, 2]


def test_no_suspect_has_the_label_that_is_suggested():
    _, labels, probabilities = draw(500, 0.2, seed=2)
    found = find_label_errors(labels, probabilities)
    assert (found.suggested[found.ranked] != labels[found.ranked]).all()
    assert (np.diff(found.margin[found.ranked]) >= 0).all()


def test_a_class_without_images_has_no_errors():
    _, labels, probabilities = draw(200, 0.0, seed=2)
    kept = labels != 2
    found = find_label_errors(labels[kept], probabilities[kept])
    assert found.joint[2].sum() == found.joint[:, 2].sum() == 0
    assert np.isfinite(found.joint).all()
