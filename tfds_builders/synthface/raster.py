"""Triangle rasterizer with a depth test, in numpy.

Groups triangles of similar size, so that each group is one vectorized pass over
small pixel windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

_WINDOWS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 1 << 20)  # window sides, pixels
_WINDOW_PIXELS = 1_000_000  # per pass: bounds memory and fits caches better
_INSIDE = np.float32(-1e-5)  # tolerance: pixels on a shared edge belong to both triangles


@dataclasses.dataclass(frozen=True, eq=False)
class Fragments:
    """Samples of triangles at pixel centers.

    Attributes:
      pixel: int64[P], row * width + column.
      triangle: int64[P], index of the triangle.
      weights: float32[P, 3], barycentric weights in screen space.
      depth: float32[P], distance from the camera.
    """

    pixel: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray
    depth: np.ndarray

    def take(self, which: np.ndarray) -> Fragments:
        """Returns the fragments at an index or mask."""
        return Fragments(
            self.pixel[which], self.triangle[which], self.weights[which], self.depth[which]
        )


def signed_double_area(corners: np.ndarray) -> np.ndarray:
    """Returns twice the signed area of triangles float[F, 3, 2]; negative means front-facing."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


def _cover(
    corners: np.ndarray, area: np.ndarray, low: np.ndarray, extent: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels inside triangles, within windows of `side`: (index of triangle, x, y, weights)."""
    y, x = np.divmod(np.arange(side * side, dtype=np.int32), side)
    a = corners[:, 0] - low - np.float32(0.5)
    b, c = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # Both barycentric weights are linear in x and y.
    bx, by, cx, cy = (v / area for v in (b[:, 0], b[:, 1], c[:, 0], c[:, 1]))
    xf, yf = x.astype(np.float32), y.astype(np.float32)
    second = cy[:, None] * xf - cx[:, None] * yf - (cy * a[:, 0] - cx * a[:, 1])[:, None]
    third = bx[:, None] * yf - by[:, None] * xf - (bx * a[:, 1] - by * a[:, 0])[:, None]
    inside = (second >= _INSIDE) & (third >= _INSIDE) & (second + third <= 1 - _INSIDE)
    inside &= (x < extent[:, :1]) & (y < extent[:, 1:])
    row, place = np.nonzero(inside)
    second, third = second[row, place], third[row, place]
    weights = np.stack([1 - second - third, second, third], 1)
    return row, x[place], y[place], weights


def fragments(
    points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, height: int, width: int
) -> Fragments:
    """Returns the fragments of all triangles, without a depth test.

    Args:
      points: float32[V, 2] in pixels; the center of pixel (0, 0) is (0.5, 0.5).
      depth: float32[V], distance from the camera.
      triangles: int[F, 3].
    """
    corners = points[triangles]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    lowest, highest = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    low = np.maximum(np.floor(lowest - 0.5).astype(np.int32) + 1, 0)
    high = np.floor(highest - 0.5).astype(np.int32)
    extent = np.minimum(high, [width - 1, height - 1]).astype(np.int32) - low + 1
    area = signed_double_area(corners)
    visible = (extent[:, 0] > 0) & (extent[:, 1] > 0) & (np.abs(area) > 1e-6)
    size = np.where(visible, np.maximum(extent[:, 0], extent[:, 1]), 0)
    pixels, owners, weights = [], [], []
    smallest = 0
    for largest in _WINDOWS:
        group = np.nonzero((size > smallest) & (size <= largest))[0]
        smallest = largest
        if not len(group):
            continue
        side = int(size[group].max())
        step = max(1, _WINDOW_PIXELS // (side * side))
        for start in range(0, len(group), step):
            part = group[start : start + step]
            row, x, y, weight = _cover(corners[part], area[part], low[part], extent[part], side)
            owner = part[row]
            pixels.append((low[owner, 1] + y).astype(np.int64) * width + low[owner, 0] + x)
            owners.append(owner)
            weights.append(weight)
    if not pixels:
        none = np.zeros(0, np.int64)
        return Fragments(none, none, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    owner, weight = np.concatenate(owners), np.concatenate(weights)
    far = np.einsum("pk,pk->p", depth[triangles[owner]], weight)
    return Fragments(np.concatenate(pixels), owner, weight, far)


def depth_test(candidates: Fragments, pixels: int) -> Fragments:
    """Returns the nearest fragment of each pixel, in pixel order."""
    winner = np.full(pixels, -1, np.int64)
    challengers = np.arange(len(candidates.pixel))
    while len(challengers):
        winner[candidates.pixel[challengers]] = challengers
        holder = winner[candidates.pixel[challengers]]
        challengers = challengers[candidates.depth[challengers] < candidates.depth[holder]]
    return candidates.take(winner[winner >= 0])


def rasterize(
    points: np.ndarray,
    depth: np.ndarray,
    triangles: np.ndarray,
    height: int,
    width: int,
    alpha_test: Callable[[Fragments], np.ndarray] | None = None,
) -> Fragments:
    """Returns the visible fragments: at most one per pixel.

    Args:
      points, depth, triangles, height, width: as for `fragments`.
      alpha_test: returns bool[P], which fragments are opaque; None means all.
    """
    candidates = fragments(points, depth, triangles, height, width)
    if alpha_test is not None:
        candidates = candidates.take(alpha_test(candidates))
    return depth_test(candidates, height * width)
