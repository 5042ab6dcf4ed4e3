"""Alignment of faces: the landmarks are where insightface puts them, the eyes are level."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_jax.faces.align import align, alignment

# insightface's arcface_src, copied independently.
ARCFACE = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
           [70.7299, 92.2041]]  # fmt: skip


def _moved(points: np.ndarray, scale: float, turn: float, shift: tuple[float, float]) -> np.ndarray:
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + shift


@pytest.mark.parametrize(("scale", "turn"), [(1.0, 0.0), (3.0, 0.5), (0.4, -1.0), (2.0, 3.0)])
def test_landmarks_move_to_insightface_s_points(scale: float, turn: float) -> None:
    points = _moved(np.array(ARCFACE), scale, turn, (100.0, 40.0))
    matrix = alignment(points, 112)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], ARCFACE, atol=1e-6)
    larger = alignment(points, 224)
    moved = points @ larger[:, :2].T + larger[:, 2]
    np.testing.assert_allclose(moved, (np.array(ARCFACE) + 0.5) * 2 - 0.5, atol=1e-6)


def test_alignment_is_a_similarity_without_reflection() -> None:
    mirrored = np.array(ARCFACE) * (-1, 1) + np.random.default_rng(0).normal(0, 3, (5, 2))
    matrix = alignment(mirrored, 112)[:, :2]
    scale = np.linalg.det(matrix)
    assert scale > 0
    np.testing.assert_allclose(matrix @ matrix.T, scale * np.eye(2), atol=1e-9)


@pytest.mark.parametrize("scale", [0.7, 6.0])
def test_an_aligned_face_is_upright(scale: float) -> None:
    points = _moved(np.array(ARCFACE), scale, 0.6, (400.0, 100.0))
    image = np.zeros((900, 1100, 3), np.uint8)
    for number, (x, y) in enumerate(points):
        radius = int(8 * scale)
        cv2.circle(image, (round(x), round(y)), radius, (50 * (number + 1),) * 3, -1)
    out = align(image, points, 112)
    assert out.shape == (112, 112, 3)
    for number, (x, y) in enumerate(ARCFACE):
        assert abs(int(out[round(y), round(x), 0]) - 50 * (number + 1)) <= 12


def test_a_large_face_is_averaged_not_sampled() -> None:
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    points = np.array(ARCFACE) * 6.3 + 50
    inside = align(stripes, points, 112)[8:-8, 8:-8]
    assert np.abs(inside.astype(int) - 127).max() < 40


def test_coincident_landmarks_are_refused() -> None:
    with pytest.raises(ValueError, match="at one point"):
        alignment(np.ones((5, 2)), 112)
