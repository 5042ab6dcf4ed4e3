"""What tells people of a video apart: colors from hair to chest, and the outlines of the head.

It takes half a millisecond per face and needs no weights. People who look alike, such as in
uniforms, are hardly told apart, and the same person in another light may count as another.
"""

from __future__ import annotations

import cv2
import numpy as np

# Chosen on 24 rendered people in four rooms each: of these descriptions, the one with the highest
# rank-1 accuracy between rooms (0.83; colors alone 0.70, outlines alone 0.54, the best layer of an
# expression network 0.43).
_GRID = (4, 8)  # columns and rows of color cells
_AREA = (0.0, 0.45, 1.0, 1.9)  # left, above, right and below, in sides of the box; above upwards
_SAMPLES = 4  # pixels of a cell along each side
_LIGHT = 0.6  # share of a change common to all cells that another light explains
_RELIABLE = 0.75  # share of the cells that count: the others may show background or a hand
_OUTLINE_AREA = 1.6  # sides of the box
_OUTLINE_SIZE, _OUTLINE_CELL = 64, 16  # pixels
_OUTLINE_WEIGHT = 20.0  # of the distance of outlines, 0 to 1.4, beside color distances
_COLORS = _GRID[0] * _GRID[1] * 3

_hog = cv2.HOGDescriptor(
    (_OUTLINE_SIZE, _OUTLINE_SIZE), (2 * _OUTLINE_CELL, 2 * _OUTLINE_CELL),
    (_OUTLINE_CELL, _OUTLINE_CELL), (_OUTLINE_CELL, _OUTLINE_CELL), 9,
)  # fmt: skip


def describe(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Returns a description of a person, float32[D], to be compared by `distance`.

    Args:
      image: uint8[H, W, 3] RGB, a whole frame.
      box: x, y, width, height of the face in pixels.
    """
    return np.concatenate([_colors(image, box), _outlines(image, box)])


def distance(look: np.ndarray, others: np.ndarray, same_light: np.ndarray) -> np.ndarray:
    """Returns how different a description is from others.

    Args:
      look: float[D], what `describe` returns.
      others: float[N, D].
      same_light: bool[N], whether it was described in the same shot. Otherwise, part of what all
        colors have in common is taken for the light.

    Returns:
      float[N], in CIELAB units.
    """
    cells = (look[:_COLORS] - others[:, :_COLORS]).reshape(len(others), -1, 3)
    rows, known = np.arange(len(others)), np.isfinite(cells[..., 0]).sum(axis=1)
    common = np.sort(cells, axis=1)[rows, known // 2]  # the median: not a number comes last
    light = np.where(same_light, 0.0, _LIGHT)[:, None, None] * np.nan_to_num(common)[:, None]
    sizes = np.sort(np.sqrt(((cells - light) ** 2).sum(axis=2)), axis=1)
    counted = np.maximum(1, (_RELIABLE * known).astype(int))
    colors = np.cumsum(np.nan_to_num(sizes), axis=1)[rows, counted - 1] / counted
    outlines = np.linalg.norm(others[:, _COLORS:] - look[_COLORS:], axis=1)
    return colors + _OUTLINE_WEIGHT * outlines


def _colors(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Mean CIELAB color of each cell, float32[96]; not a number beside the image."""
    x, y, width, height = box
    columns, rows = (cells * _SAMPLES for cells in _GRID)
    left, above, right, below = _AREA
    area = (x + left * width, y - above * height, (right - left) * width, (above + below) * height)
    small, is_inside = _part(image, area, (columns, rows))
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[:, ~is_inside] = np.nan
    cells = lab.reshape(_GRID[1], _SAMPLES, _GRID[0], _SAMPLES, 3)
    return np.asarray(cells.mean(axis=(1, 3))).reshape(-1)


def _outlines(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Histograms of gradients around the face, float32[324] of length 1."""
    x, y, width, height = box
    more = (_OUTLINE_AREA - 1) / 2
    area = (x - more * width, y - more * height, _OUTLINE_AREA * width, _OUTLINE_AREA * height)
    part, _ = _part(image, area, (_OUTLINE_SIZE, _OUTLINE_SIZE))
    histograms = np.asarray(_hog.compute(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY))).reshape(-1)
    return histograms / max(float(np.linalg.norm(histograms)), 1e-6)


def _part(
    image: np.ndarray, area: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Samples a part of an image.

    Args:
      image: uint8[H, W, 3].
      area: x, y, width, height; may extend past the border, which is repeated.
      size: columns and rows of the result.

    Returns:
      uint8[rows, columns, 3], and bool[columns], which columns are inside the image.
    """
    columns, rows = (
        (area[axis] + area[axis + 2] * (np.arange(size[axis]) + 0.5) / size[axis]).astype(int)
        for axis in (0, 1)
    )
    is_inside = (columns >= 0) & (columns < image.shape[1])
    rows, columns = rows.clip(0, image.shape[0] - 1), columns.clip(0, image.shape[1] - 1)
    part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if (step := int(area[2] / size[0])) > 1:  # single pixels are noise
        part = cv2.blur(part, (step, step))
    return part[np.ix_(rows - rows[0], columns - columns[0])], is_inside
