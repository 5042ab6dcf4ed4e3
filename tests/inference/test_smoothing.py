"""Smoothing of probabilities over time: analytic cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fer_jax.inference.smoothing import Smoother, Smoothing

A, B = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def test_a_step_is_approached_exponentially():
    smoother = Smoother(Smoothing(0.5))
    smoother.update(1, 0.0, A)
    for index in range(1, 40):
        seconds = index / 25
        smoothed = smoother.update(1, seconds, B)
        assert smoothed[0] == pytest.approx(math.exp(-seconds / 0.5))
        assert smoothed.sum() == pytest.approx(1)


def test_the_frame_rate_does_not_matter():
    fast, uneven = Smoother(Smoothing(0.3)), Smoother(Smoothing(0.3))
    fast.update(1, 0.0, A), uneven.update(1, 0.0, A)
    for index in range(1, 101):
        last = fast.update(1, index / 100, B)
    for seconds in (0.013, 0.2, 0.21, 0.9, 1.0):
        other = uneven.update(1, seconds, B)
    np.testing.assert_allclose(last, other)


def test_tracks_are_independent_and_forgotten():
    smoother = Smoother(Smoothing(0.1))
    smoother.update(1, 0.0, A)
    np.testing.assert_array_equal(smoother.update(2, 0.01, B), B)
    smoother.update(3, 50.0, A)
    assert list(smoother._states) == [3]


def test_a_short_flicker_changes_no_label():
    smoother = Smoother(Smoothing(0.25))
    rows = [A] * 10 + [0.4 * A + 0.6 * B] + [A] * 10
    labels = [smoother.update(1, index / 25, row).argmax() for index, row in enumerate(rows)]
    assert labels == [0] * 21
