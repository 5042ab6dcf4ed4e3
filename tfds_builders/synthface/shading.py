"""Shading in linear RGB: bump mapping, shadow map, ambient occlusion, diffuse and specular.

Camera effects are in `camera`.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from tfds_builders.synthface import raster
from tfds_builders.synthface.geometry import View
from tfds_builders.synthface.head import (
    BODY,
    LEFT_EYE,
    LOWER_TEETH,
    RIGHT_EYE,
    UPPER_TEETH,
    HeadModel,
)
from tfds_builders.synthface.material import Material
from tfds_builders.synthface.scene import Scene
from tfds_builders.synthface.surface import Points, unit
from tfds_builders.synthface.texture import smoothstep

_MAX_SLOPE = 1.2  # of the bump map: keeps normals facing the camera
_SHADOW_SIZE, _SHADOW_WIDTH = 224, 4.2  # side of the shadow map, pixels and decimeters
_SHADOW_TAPS = ((-0.9, -0.4), (0.4, -0.9), (0.9, 0.4), (-0.4, 0.9), (0.0, 0.0))
_SHADOW_SPREAD = 1.3
_SHADOW_OFFSET, _SHADOW_BIAS = 0.035, 0.02  # decimeters: against self-shadowing
_OCCLUSION = ((0.05, 4.5), (0.16, 1.6))  # radius in decimeters, strength


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("pk,pk->p", a, b) if b.ndim == 2 else a @ b


def bump_normals(points: Points, height: np.ndarray, view: View, size: int) -> np.ndarray:
    """Returns normals float32[P, 3] perturbed by the screen-space gradient of `height`."""
    bumps = np.zeros((size, size), np.float32)
    covered = np.zeros((size, size), np.uint8)
    bumps.ravel()[points.pixel] = height
    covered.ravel()[points.pixel] = 1
    step = 8 * view.decimeters_per_pixel  # a 3x3 Sobel filter has a gain of 8
    slopes = []
    for right, down in ((1, 0), (0, 1)):
        slope = cv2.Sobel(bumps, cv2.CV_32F, right, down, ksize=3).ravel()[points.pixel]
        slopes.append(np.clip(slope / step, -_MAX_SLOPE, _MAX_SLOPE))
    # At the silhouette, the gradient is that of the border, not of the skin.
    inner = cv2.erode(covered, np.ones((3, 3), np.uint8))
    inner = inner.ravel()[points.pixel]
    bent = points.normal.copy()
    bent[:, 0] -= slopes[0] * inner
    bent[:, 1] += slopes[1] * inner
    return unit(bent)


def _shadow_frame(light: np.ndarray) -> np.ndarray:
    """Light-space axes float32[3, 3]: rows point right, up and towards the light."""
    right = np.cross([0, 1, 0], light)
    right = right / np.linalg.norm(right)
    return np.stack([right, np.cross(light, right), light]).astype(np.float32)


def _to_shadow_map(position: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projects to shadow-map pixels float32[P, 2] and light-space depth float32[P]."""
    right, up, towards = (position @ frame.T).T
    scale = np.float32(_SHADOW_SIZE / _SHADOW_WIDTH)
    middle = np.float32(_SHADOW_SIZE / 2)
    return np.stack([middle + right * scale, middle - (up - 0.2) * scale], 1), -towards


def key_visibility(
    head: HeadModel, view: View, points: Points, normals: np.ndarray, light: np.ndarray
) -> np.ndarray:
    """Returns key-light visibility float32[P]: a shadow map with percentage-closer filtering."""
    frame = _shadow_frame(light)
    places, distance = _to_shadow_map(view.position, frame)
    body = head.triangles[head.triangle_part == BODY]
    body = body[raster.signed_double_area(places[body]) < 0]  # faces the light
    seen = raster.rasterize(places, distance, body, _SHADOW_SIZE, _SHADOW_SIZE)
    nearest = np.full(_SHADOW_SIZE * _SHADOW_SIZE, 50, np.float32)
    nearest[seen.pixel] = seen.depth
    places, distance = _to_shadow_map(points.position + normals * _SHADOW_OFFSET, frame)
    lit = np.zeros(len(distance), np.float32)
    for tap in _SHADOW_TAPS:
        shift = np.float32(_SHADOW_SPREAD) * np.array(tap, np.float32) - np.float32(0.5)
        column, row = np.clip(np.rint(places + shift).astype(np.int32), 0, _SHADOW_SIZE - 1).T
        lit += nearest[row * _SHADOW_SIZE + column] > distance - _SHADOW_BIAS
    return lit / len(_SHADOW_TAPS)


def ambient_visibility(points: Points, material: Material, view: View, size: int) -> np.ndarray:
    """Returns screen-space ambient occlusion: the visible fraction of ambient light, float32[P]."""
    depth = np.full((size, size), view.distance + 1, np.float32)
    depth.ravel()[points.pixel] = points.depth
    half = cv2.resize(depth, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    open_sky = np.ones(len(points.pixel), np.float32)
    for radius, strength in _OCCLUSION:
        pixels = max(1.0, radius / view.decimeters_per_pixel)
        around = cv2.GaussianBlur(half, (0, 0), pixels / 2)
        around = cv2.resize(around, (size, size), interpolation=cv2.INTER_LINEAR)
        behind = np.clip((depth - around).ravel()[points.pixel], 0, 0.3)
        open_sky *= np.exp(-strength * behind)
    open_sky = np.clip(open_sky, 0.25, 1)
    return _occlude_openings(open_sky, points, material)


def _occlude_openings(open_sky: np.ndarray, points: Points, material: Material) -> np.ndarray:
    """Darkens the eyeballs below the lids and the inside of the mouth, in place."""
    y, z = points.rest[:, 1], points.rest[:, 2]
    eyes = (points.part == LEFT_EYE) | (points.part == RIGHT_EYE)
    lid = smoothstep(0, 0.12, 0.15 - np.abs(y[eyes] - 7.35))
    open_sky[eyes] *= 0.35 + 0.65 * lid
    open_sky *= 1 - material.in_mouth * (0.9 - 0.75 * smoothstep(1.0, 1.45, z))
    teeth = (points.part == UPPER_TEETH) | (points.part == LOWER_TEETH)
    shows = 0.5 * smoothstep(0.95, 1.3, z[teeth])
    open_sky[teeth] = np.maximum(open_sky[teeth], shows)
    return open_sky


@dataclasses.dataclass(frozen=True, eq=False)
class _Lit:
    """Light geometry at each point.

    Attributes:
      normal: float32[P, 3], bump-mapped normal.
      visible: float32[P], visibility of the key light.
      open_sky: float32[P], visibility of the ambient light.
      towards_key: float32[P], cosine between normal and key light.
    """

    normal: np.ndarray
    visible: np.ndarray
    open_sky: np.ndarray
    towards_key: np.ndarray


def _diffuse(lit: _Lit, material: Material, scene: Scene) -> np.ndarray:
    """Diffuse irradiance float32[P, 3]: key light with wrap, ambient and rim light."""
    scatter = material.scatter
    wrap = 0.22 * scatter
    diffuse = np.clip((lit.towards_key + wrap) / (1 + wrap), 0, 1)
    # Subsurface scattering reddens the terminator.
    red = diffuse + (diffuse**0.85 - diffuse) * scatter
    blue = diffuse + (diffuse**1.06 - diffuse) * scatter
    key = np.stack([red, diffuse, blue], 1) * lit.visible[:, None] * scene.key_color
    sky = (0.62 + 0.38 * lit.normal[:, 1] + 0.1 * lit.normal[:, 2]) * lit.open_sky
    rim = np.clip(_dot(lit.normal, scene.rim_direction), 0, 1) * scene.rim_strength * lit.open_sky
    return key + sky[:, None] * scene.ambient_color + rim[:, None]


def _specular(lit: _Lit, material: Material, points: Points, scene: Scene) -> np.ndarray:
    """Specular radiance float32[P, 3]: Blinn-Phong highlight and a Fresnel-like sheen of skin."""
    halfway = unit(points.to_camera + scene.key_direction)
    facing = np.clip(_dot(lit.normal, halfway), 0, 1)
    gleam = facing**material.shininess * material.specular * (material.shininess + 8) / 60
    gleam *= lit.visible * np.clip(lit.towards_key + 0.3, 0, 1) * 0.45
    grazing = 1 - np.clip(_dot(lit.normal, points.to_camera), 0, 1)
    grazing *= grazing
    sheen = grazing * grazing * 0.08 * lit.open_sky * (points.part == BODY)
    return gleam[:, None] * scene.key_color + sheen[:, None] * scene.ambient_color


def shade(
    head: HeadModel, view: View, points: Points, material: Material, scene: Scene, size: int
) -> np.ndarray:
    """Returns linear RGB float32[P, 3] of every visible point."""
    normal = bump_normals(points, material.height, view, size)
    lit = _Lit(
        normal=normal,
        visible=key_visibility(head, view, points, normal, scene.key_direction),
        open_sky=ambient_visibility(points, material, view, size),
        towards_key=_dot(normal, scene.key_direction),
    )
    return material.albedo * _diffuse(lit, material, scene) + _specular(
        lit, material, points, scene
    )
