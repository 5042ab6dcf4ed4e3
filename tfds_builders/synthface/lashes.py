"""Eyelashes: thin sheets drawn over the finished picture, strand by strand."""

from __future__ import annotations

import functools

import numpy as np

from tfds_builders.synthface import raster
from tfds_builders.synthface.geometry import View
from tfds_builders.synthface.head import LASHES, UPPER_LASHES, HeadModel
from tfds_builders.synthface.identity import Person
from tfds_builders.synthface.surface import Points, interpolate

_BEHIND = 0.012  # decimeters: a lash this far inside the lid still shows
_STRANDS = 620  # across the width of the texture
# From root to tip on the texture.
_UPPER_ROOT, _UPPER_TIP, _LOWER_ROOT, _LOWER_TIP = 0.927, 0.947, 0.967, 0.985


@functools.lru_cache(maxsize=2)
def _sheets(head: HeadModel) -> np.ndarray:
    return np.nonzero(np.isin(head.triangle_part, LASHES))[0]


def composite(
    light: np.ndarray, head: HeadModel, person: Person, view: View, points: Points, size: int
) -> None:
    """Darkens `light` float32[size * size, 3] in place where lashes are seen."""
    sheets = _sheets(head)
    seen = raster.rasterize(view.points, view.depth, head.triangles[sheets], size, size)
    solid = np.full(size * size, np.inf, np.float32)
    solid[points.pixel] = points.depth
    seen = seen.take(seen.depth < solid[seen.pixel] + _BEHIND)
    sheet = sheets[seen.triangle]
    u, v = interpolate(head.texture_coordinates, head.triangle_texture[sheet], seen.weights).T
    upper = np.isin(head.triangle_part[sheet], UPPER_LASHES)
    root = np.where(upper, _UPPER_ROOT, _LOWER_ROOT)
    along = (v - root) / (np.where(upper, _UPPER_TIP, _LOWER_TIP) - root)
    strand = np.abs(np.mod(u * _STRANDS + 2 * along, 1) - 0.5) * 2
    cover = np.where(upper, 0.75, 0.3) * (0.35 + 0.65 * (strand > 0.45)) * person.lashes
    cover = cover.astype(np.float32)[:, None]
    light[seen.pixel] = light[seen.pixel] * (1 - cover) + person.brow_color * 0.1 * cover
