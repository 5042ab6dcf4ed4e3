"""The rasterizer against a brute-force loop."""

from __future__ import annotations

import numpy as np

from tfds_builders.synthface import raster


def _brute_force(
    points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, side: int
) -> np.ndarray:
    """Nearest triangle at each pixel center, int[side * side]; -1 is none."""
    owner, nearest = np.full(side * side, -1), np.full(side * side, np.inf)
    for number, triangle in enumerate(triangles):
        a, b, c = points[triangle].astype(float)
        matrix = np.stack([b - a, c - a], 1)
        for pixel in range(side * side):
            row, column = divmod(pixel, side)
            second, third = np.linalg.solve(matrix, np.array([column + 0.5, row + 0.5]) - a)
            weights = np.array([1 - second - third, second, third])
            far = weights @ depth[triangle]
            if weights.min() >= 0 and far < nearest[pixel]:
                owner[pixel], nearest[pixel] = number, far
    return owner


def test_same_triangles_as_brute_force() -> None:
    rng = np.random.default_rng(0)
    side = 20
    points = rng.uniform(-4, side + 4, (36, 2)).astype(np.float32)
    depth = rng.uniform(5, 9, 36).astype(np.float32)
    triangles = np.arange(36).reshape(-1, 3)
    seen = raster.rasterize(points, depth, triangles, side, side)
    owner = np.full(side * side, -1)
    owner[seen.pixel] = seen.triangle
    expected = _brute_force(points, depth, triangles, side)
    assert (expected >= 0).mean() > 0.5
    assert np.array_equal(owner, expected)


def test_adjacent_triangles_leave_no_gap() -> None:
    points = np.array([[0, 0], [16, 0], [16, 16], [0, 16]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    seen = raster.rasterize(points, np.ones(4, np.float32), triangles, 16, 16)
    assert np.array_equal(seen.pixel, np.arange(256))
    assert np.allclose(seen.weights.sum(1), 1)


def test_triangle_outside_the_image_has_no_fragments() -> None:
    points = np.array([[-9, -9], [-5, -9], [-5, -5]], np.float32)
    seen = raster.rasterize(points, np.ones(3, np.float32), np.array([[0, 1, 2]]), 8, 8)
    assert len(seen.pixel) == 0
