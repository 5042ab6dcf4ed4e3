"""Renders one image of a head with an expression in a scene.

A pure function of its arguments; `scene.seed` seeds the background and the sensor noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tfds_builders.synthface import (
    camera,
    geometry,
    glasses,
    lashes,
    shading,
    skin,
    surface,
)
from tfds_builders.synthface import material as materials
from tfds_builders.synthface.expression import Expression
from tfds_builders.synthface.geometry import NeutralHead
from tfds_builders.synthface.head import HeadModel
from tfds_builders.synthface.material import Material
from tfds_builders.synthface.scene import Scene


class Rendering(NamedTuple):
    """An image and the place of its face.

    Attributes:
      image: uint8[size, size, 3], RGB.
      face_box: x, y, width, height in pixels.
      landmarks: float32[5, 2] in pixels, as `geometry.landmarks` orders them.
    """

    image: np.ndarray
    face_box: tuple[int, int, int, int]
    landmarks: np.ndarray


def _paint(
    head: HeadModel, points: surface.Points, neutral: NeutralHead, expression: Expression
) -> Material:
    painted = Material.blank(len(points.pixel))
    skin.paint(painted, head, points, neutral.person, expression.action_units)
    materials.paint_eyes(painted, head, points, neutral.person)
    materials.paint_mouth(painted, points)
    materials.paint_long_hair(painted, points, neutral.person)
    return painted


def _whole_pixels(box: tuple[float, float, float, float], size: int) -> tuple[int, int, int, int]:
    """Converts a box from fractions (left, top, right, bottom) to pixels (x, y, width, height)."""
    left, top = (min(math.floor(edge * size), size - 1) for edge in box[:2])
    right, bottom = (math.ceil(edge * size) for edge in box[2:])
    return left, top, max(right - left, 1), max(bottom - top, 1)


def render(
    head: HeadModel,
    neutral: NeutralHead,
    expression: Expression,
    scene: Scene,
    size: int,
    supersample: int = 2,
) -> Rendering:
    """Renders at `supersample * size` pixels and downsamples to `size`."""
    rng = np.random.default_rng(scene.seed)
    large = size * supersample
    vertices = geometry.apply_expression(head, neutral, expression)
    view = geometry.project(vertices, neutral.person.scale, scene, large)
    points = surface.visible_points(head, neutral, view, large)
    painted = _paint(head, points, neutral, expression)
    light = camera.render_background(scene.background, rng, large).reshape(-1, 3)
    light[points.pixel] = shading.shade(head, view, points, painted, scene, large)
    lashes.composite(light, head, neutral.person, view, points, large)
    glasses.composite(light, head, neutral, scene, view, points, large)
    pixels = light.reshape(large, large, 3)
    if scene.occluder is not None:
        camera.occlude(pixels, scene.occluder)
    image = camera.to_image(pixels, scene, rng, size)
    box = _whole_pixels(geometry.face_box(head, view, large), size)
    return Rendering(image, box, geometry.landmarks(head, view) / supersample)
