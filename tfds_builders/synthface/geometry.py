"""Head mesh of a person with an expression, posed and projected onto the image.

Applies blend shapes, offsets the scalp by the hair volume, rotates and projects.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfds_builders.synthface import hair
from tfds_builders.synthface.expression import Expression
from tfds_builders.synthface.head import (
    BODY,
    LEFT_EYE,
    RIGHT_EYE,
    HeadModel,
)
from tfds_builders.synthface.identity import Person
from tfds_builders.synthface.scene import Scene

HEAD_CENTER = np.array([0, 7.22, 0.58], np.float32)  # between the ears: the center of rotation
FRAME_HEIGHT = 2.25  # decimeters: a head of this height has `fill` 1

# Bounds of the face in rest space: brows to chin (y), front (z), cheek to cheek (|x|).
_FACE_LOW, _FACE_HIGH, _FACE_BACK, _FACE_WIDE = 6.27, 7.72, 0.62, 0.72

# Tip of the nose and the mouth corner at image left, in rest space.
_NOSE_TIP, _MOUTH_CORNER = (0.0, 6.998, 1.596), (-0.222, 6.681, 1.39)


@dataclasses.dataclass(frozen=True, eq=False)
class NeutralHead:
    """A person's head mesh without an expression.

    Attributes:
      person: the parameters that the mesh was built from.
      vertices: float32[V, 3], scaled and translated to the size and eyes of the rest head.
      size_factor: that scale; expression displacements are multiplied by it.
      hair_height: float32[V], offset of the scalp along its normals, decimeters.
    """

    person: Person
    vertices: np.ndarray
    size_factor: float
    hair_height: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """A posed head in front of a camera at (0, 0, distance) that looks along -z.

    Attributes:
      position: float32[V, 3], posed vertices, decimeters.
      depth: float32[V], distance from the camera along its axis, decimeters.
      screen: float32[V, 2], projected vertices (x, y), pixels.
      distance: from the camera to the head, decimeters.
      decimeters_per_pixel: at the mean depth of the head.
    """

    position: np.ndarray
    depth: np.ndarray
    screen: np.ndarray
    distance: float
    decimeters_per_pixel: float


def _eye_center(head: HeadModel, vertices: np.ndarray) -> np.ndarray:
    left, right = (vertices[head.vertex_part == part].mean(0) for part in (LEFT_EYE, RIGHT_EYE))
    return (left + right) / 2


def _face_height(head: HeadModel, vertices: np.ndarray) -> float:
    """Distance from crown to chin, decimeters."""
    rest, body = head.rest, head.vertex_part == BODY
    crown = body & (rest[:, 1] > 8.38)
    chin = body & (np.abs(rest[:, 1] - 6.28) < 0.04) & (rest[:, 2] > 1.1)
    return float(vertices[crown, 1].mean() - vertices[chin, 1].mean())


def build_neutral_head(head: HeadModel, person: Person) -> NeutralHead:
    """Applies a person's identity shapes and aligns the head with the rest head."""
    vertices = head.blend(head.vertices, person.shapes)
    size_factor = (_face_height(head, head.rest) / _face_height(head, vertices)) ** 0.85
    center = _eye_center(head, vertices)
    vertices = (vertices - center) * size_factor + _eye_center(head, head.rest)
    height = hair.lift(head.rest, person) * (head.vertex_part == BODY)
    return NeutralHead(person, vertices.astype(np.float32), size_factor, height.astype(np.float32))


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Returns area-weighted unit normals float32[V, 3]; zero for vertices without a triangle."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    corner, count = triangles.ravel(), len(vertices)
    total = [np.bincount(corner, np.repeat(faces[:, k], 3), count) for k in range(3)]
    normals = np.stack(total, 1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return (normals / np.maximum(length, 1e-9)).astype(np.float32)


def apply_expression(head: HeadModel, neutral: NeutralHead, expression: Expression) -> np.ndarray:
    """Returns the vertices float32[V, 3] of the head with the expression and hair volume."""
    units = {f"unit/{k}": x * neutral.size_factor for k, x in expression.blend_shapes.items()}
    vertices = head.blend(neutral.vertices, units)
    if not neutral.hair_height.any():
        return vertices
    normals = vertex_normals(vertices, head.triangles[head.triangle_part == BODY])
    return vertices + normals * neutral.hair_height[:, None]


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Returns float32[3, 3]: yaw about y, then pitch about x, then roll about z, in degrees."""
    y, p, r = np.radians([yaw, pitch, roll])
    cy, sy, cp, sp, cr, sr = np.cos(y), np.sin(y), np.cos(p), np.sin(p), np.cos(r), np.sin(r)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


def project(vertices: np.ndarray, scale: float, scene: Scene, size: int) -> View:
    """Poses vertices float32[V, 3] and projects them onto a square image of `size` pixels."""
    position = (vertices - HEAD_CENTER) * np.float32(scale)
    position = position @ rotation_matrix(scene.yaw, scene.pitch, scene.roll).T
    focal = scene.fill * size / FRAME_HEIGHT * scene.distance
    depth = np.float32(scene.distance) - position[:, 2]
    middle = size * (0.5 + scene.offset)
    x = middle[0] + focal * position[:, 0] / depth
    y = middle[1] - focal * position[:, 1] / depth
    screen = np.stack([x, y], 1).astype(np.float32)
    return View(position, depth, screen, scene.distance, float(depth.mean() / focal))


def face_box(head: HeadModel, view: View, size: int) -> tuple[float, float, float, float]:
    """Returns left, top, right, bottom of the face (brows to chin) as fractions of the image."""
    rest = head.rest
    inside = (rest[:, 1] > _FACE_LOW) & (rest[:, 1] < _FACE_HIGH) & (rest[:, 2] > _FACE_BACK)
    inside &= (np.abs(rest[:, 0]) < _FACE_WIDE) & (head.vertex_part == BODY)
    points = np.clip(view.screen[inside] / size, 0, 1)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


def landmarks(head: HeadModel, view: View) -> np.ndarray:
    """Returns eyes, nose tip and mouth corners, image left first: float32[5, 2] in pixels."""
    mirrored = (-_MOUTH_CORNER[0], *_MOUTH_CORNER[1:])
    # The subject's right eye is at image left.
    eyes = [view.screen[head.vertex_part == part].mean(0) for part in (RIGHT_EYE, LEFT_EYE)]
    below = [view.screen[_nearest(head, place)] for place in (_NOSE_TIP, _MOUTH_CORNER, mirrored)]
    return np.array([*eyes, *below], np.float32)


def _nearest(head: HeadModel, place: tuple[float, float, float]) -> int:
    """Index of the body vertex nearest to a point in rest space."""
    distance = np.square(head.rest - np.array(place, np.float32)).sum(1)
    return int(np.where(head.vertex_part == BODY, distance, np.inf).argmin())
