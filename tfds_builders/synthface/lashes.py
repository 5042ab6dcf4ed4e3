"""Eyelashes: card meshes with a procedural strand texture, composited over the shaded image."""

from __future__ import annotations

import functools

import numpy as np

from tfds_builders.synthface import raster
from tfds_builders.synthface.geometry import View
from tfds_builders.synthface.head import LASHES, UPPER_LASHES, HeadModel
from tfds_builders.synthface.identity import Person
from tfds_builders.synthface.surface import Points, interpolate

_BEHIND = 0.012  # depth tolerance, decimeters: lashes slightly inside the lid are visible
_STRANDS = 620  # strands per unit of u
# Texture coordinate v of the roots and tips.
_UPPER_ROOT, _UPPER_TIP, _LOWER_ROOT, _LOWER_TIP = 0.927, 0.947, 0.967, 0.985


@functools.lru_cache(maxsize=2)
def _lash_triangles(head: HeadModel) -> np.ndarray:
    return np.nonzero(np.isin(head.triangle_part, LASHES))[0]


def composite(
    light: np.ndarray, head: HeadModel, person: Person, view: View, points: Points, size: int
) -> None:
    """Composites the lashes over `light` float32[size * size, 3], in place."""
    cards = _lash_triangles(head)
    seen = raster.rasterize(view.screen, view.depth, head.triangles[cards], size, size)
    solid = np.full(size * size, np.inf, np.float32)
    solid[points.pixel] = points.depth
    seen = seen.take(seen.depth < solid[seen.pixel] + _BEHIND)
    card = cards[seen.triangle]
    u, v = interpolate(head.texture_coordinates, head.triangle_texture[card], seen.weights).T
    upper = np.isin(head.triangle_part[card], UPPER_LASHES)
    root = np.where(upper, _UPPER_ROOT, _LOWER_ROOT)
    along = (v - root) / (np.where(upper, _UPPER_TIP, _LOWER_TIP) - root)
    strand = np.abs(np.mod(u * _STRANDS + 2 * along, 1) - 0.5) * 2
    alpha = np.where(upper, 0.75, 0.3) * (0.35 + 0.65 * (strand > 0.45)) * person.lashes
    alpha = alpha.astype(np.float32)[:, None]
    light[seen.pixel] = light[seen.pixel] * (1 - alpha) + person.brow_color * 0.1 * alpha
