"""G-buffer of the head: the visible surface point of each covered pixel.

Culls and rasterizes the triangles, and interpolates their vertex attributes.
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
    """Visible surface points, in pixel order.

    Attributes:
      pixel: int64[P], row * size + column.
      part: int64[P], index into `head.PARTS`.
      rest: float32[P, 3], position on the rest head, where materials are defined.
      texture: float32[P, 2], UVs in [0, 1], v up.
      position: float32[P, 3], posed position, decimeters.
      normal, to_camera: float32[P, 3], unit vectors.
      depth: float32[P], distance from the camera, decimeters.
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
        """Returns the points at an index or mask."""
        fields = dataclasses.fields(self)
        return Points(**{field.name: getattr(self, field.name)[which] for field in fields})


def unit(vectors: np.ndarray) -> np.ndarray:
    """Normalizes float[P, 3] to unit length."""
    length = np.sqrt(np.einsum("pk,pk->p", vectors, vectors))
    return vectors / np.maximum(length, 1e-6)[:, None]


def interpolate(values: np.ndarray, triangles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolates vertex attributes float32[V, K] at triangles int[P, 3]: float32[P, K]."""
    total = values[triangles[:, 0]] * weights[:, :1]
    total += values[triangles[:, 1]] * weights[:, 1:2]
    total += values[triangles[:, 2]] * weights[:, 2:]
    return total


@functools.lru_cache(maxsize=4)
def _opaque_triangles(head: HeadModel, long_hair: bool) -> np.ndarray:
    """Indices of the triangles to rasterize: no lashes, the hair mesh only for long hair."""
    shown = ~np.isin(head.triangle_part, LASHES)
    if not long_hair:
        shown &= head.triangle_part != HAIR
    return np.nonzero(shown)[0]


def visible_points(head: HeadModel, neutral: NeutralHead, view: View, size: int) -> Points:
    """Rasterizes the head at `size` pixels. Culls back faces, except those of long hair."""
    person = neutral.person
    chosen = _opaque_triangles(head, person.hair_style == "long")
    normals = vertex_normals(view.position, head.triangles[chosen])
    facing = raster.signed_double_area(view.screen[head.triangles[chosen]]) < 0
    chosen = chosen[facing | (head.triangle_part[chosen] == HAIR)]
    triangles, parts = head.triangles[chosen], head.triangle_part[chosen]

    def is_opaque(candidates: raster.Fragments) -> np.ndarray:
        opaque = np.ones(len(candidates.pixel), bool)
        long_hair = np.nonzero(parts[candidates.triangle] == HAIR)[0]
        if len(long_hair):
            corners = triangles[candidates.triangle[long_hair]]
            rest = interpolate(head.rest, corners, candidates.weights[long_hair])
            opaque[long_hair] = hair.long_hair_alpha(rest, person)
        return opaque

    seen = raster.rasterize(view.screen, view.depth, triangles, size, size, is_opaque)
    corners = triangles[seen.triangle]
    # Perspective-correct barycentric weights.
    weights = seen.weights / view.depth[corners]
    weights /= weights.sum(1, keepdims=True)
    part = parts[seen.triangle]
    # One gather of all attributes is faster than three.
    attributes = np.hstack([view.position, normals, head.rest])
    position, normal, rest = np.hsplit(interpolate(attributes, corners, weights), 3)
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
