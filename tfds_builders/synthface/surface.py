"""What of the head is seen: one surface point for each covered pixel.

Chooses the triangles, runs the rasterizer and interpolates. Paints nothing.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from tfds_builders.synthface import hair, raster
from tfds_builders.synthface.geometry import NeutralHead, View, vertex_normals
from tfds_builders.synthface.head import HAIR, LASHES, HeadModel


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Visible surface points, in the order of their pixels.

    Attributes:
      pixel: int64[P], row * size + column.
      part: int64[P], index into `head.PARTS`.
      rest: float32[P, 3], where on the rest head: the space that is painted.
      texture: float32[P, 2], coordinates on the texture in [0, 1], v upwards.
      position, normal, to_camera: float32[P, 3] in the camera's space; the last two are unit.
      depth: float32[P], decimeters from the camera.
    """

    pixel: np.ndarray
    part: np.ndarray
    rest: np.ndarray
    texture: np.ndarray
    position: np.ndarray
    normal: np.ndarray
    to_camera: np.ndarray
    depth: np.ndarray

    def take(self, which: np.ndarray) -> Points:
        """The points at an index or mask `which`."""
        fields = dataclasses.fields(self)
        return Points(**{field.name: getattr(self, field.name)[which] for field in fields})


def unit(vectors: np.ndarray) -> np.ndarray:
    """float[P, 3] scaled to length 1."""
    length = np.sqrt(np.einsum("pk,pk->p", vectors, vectors))
    return vectors / np.maximum(length, 1e-6)[:, None]


def interpolate(values: np.ndarray, triangles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values float32[V, K] at triangles' corners int[P, 3], blended to float32[P, K]."""
    total = values[triangles[:, 0]] * weights[:, :1]
    total += values[triangles[:, 1]] * weights[:, 1:2]
    total += values[triangles[:, 2]] * weights[:, 2:]
    return total


@functools.lru_cache(maxsize=4)
def _drawn(head: HeadModel, with_sheet: bool) -> np.ndarray:
    """Triangles of the first pass: all but lashes, and the hair sheet only for long hair."""
    shown = ~np.isin(head.triangle_part, LASHES)
    if not with_sheet:
        shown &= head.triangle_part != HAIR
    return np.nonzero(shown)[0]


def visible_points(head: HeadModel, neutral: NeutralHead, view: View, size: int) -> Points:
    """Rasterizes the head at `size` pixels; seen from behind, only loose hair is drawn."""
    person = neutral.person
    chosen = _drawn(head, person.hair_style == "long")
    normals = vertex_normals(view.position, head.triangles[chosen])
    facing = raster.signed_double_area(view.points[head.triangles[chosen]]) < 0
    chosen = chosen[facing | (head.triangle_part[chosen] == HAIR)]
    triangles, parts = head.triangles[chosen], head.triangle_part[chosen]

    def exists(found: raster.Fragments) -> np.ndarray:
        kept = np.ones(len(found.pixel), bool)
        loose = np.nonzero(parts[found.triangle] == HAIR)[0]
        if len(loose):
            corners = triangles[found.triangle[loose]]
            rest = interpolate(head.rest, corners, found.weights[loose])
            kept[loose] = hair.sheet_exists(rest, person)
        return kept

    seen = raster.rasterize(view.points, view.depth, triangles, size, size, exists)
    corners = triangles[seen.triangle]
    # Perspective: weights on the surface, not on the screen.
    weights = seen.weights / view.depth[corners]
    weights /= weights.sum(1, keepdims=True)
    part = parts[seen.triangle]
    # One gather of all that the corners know is faster than three.
    known = np.hstack([view.position, normals, head.rest])
    position, normal, rest = np.hsplit(interpolate(known, corners, weights), 3)
    camera = np.array([0, 0, view.distance], np.float32)
    to_camera = unit(camera - position)
    normal = unit(normal)
    away = (np.einsum("pk,pk->p", normal, to_camera) < 0) & (part == HAIR)
    normal[away] *= -1
    texture = head.triangle_texture[chosen][seen.triangle]
    return Points(
        pixel=seen.pixel,
        part=part,
        rest=np.ascontiguousarray(rest),
        texture=interpolate(head.texture_coordinates, texture, weights),
        position=position,
        normal=normal,
        to_camera=to_camera,
        depth=seen.depth,
    )
