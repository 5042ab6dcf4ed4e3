"""Material of every visible point: albedo, specular reflection, bump height, scattering.

Covers eyes, teeth, tongue, long hair and clothes; `skin` covers the skin.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfds_builders.synthface import hair
from tfds_builders.synthface.head import (
    HAIR,
    LEFT_EYE,
    LOWER_TEETH,
    RIGHT_EYE,
    TONGUE,
    UPPER_TEETH,
    HeadModel,
)  # fmt: skip
from tfds_builders.synthface.identity import Person
from tfds_builders.synthface.surface import Points
from tfds_builders.synthface.texture import (
    bump,
    mix,
    noise,
    sample,
    smoothstep,
)

_EYE_RADIUS = 0.145  # decimeters
_IRIS, _PUPIL = 0.46, 0.19  # radii in units of the eye's
_SCLERA = np.array([0.62, 0.56, 0.53], np.float32)
_ENAMEL = np.array([0.62, 0.56, 0.46], np.float32)
_TONGUE_RED = np.array([0.38, 0.12, 0.11], np.float32)
_FIBERS, _FABRIC = 8, 4  # seeds of noise textures


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """Material properties of P surface points.

    Attributes:
      albedo: float32[P, 3], linear RGB.
      specular, shininess: float32[P], strength and exponent of the Blinn-Phong highlight.
      height: float32[P], bump height, decimeters.
      scatter: float32[P], subsurface scattering, 0 to 1.
      in_mouth: float32[P], 1 inside the mouth, which receives little light.
    """

    albedo: np.ndarray
    specular: np.ndarray
    shininess: np.ndarray
    height: np.ndarray
    scatter: np.ndarray
    in_mouth: np.ndarray

    @classmethod
    def blank(cls, count: int) -> Material:
        """Returns a material whose properties are all 0, except shininess."""
        zero = [np.zeros(count, np.float32) for _ in range(4)]
        shininess = np.full(count, 18, np.float32)
        return cls(np.zeros((count, 3), np.float32), zero[0], shininess, zero[1], zero[2], zero[3])

    def blend(self, alpha: np.ndarray, **properties: np.ndarray | float) -> None:
        """Blends other properties over these in place, by `alpha` float32[P]."""
        for name, value in properties.items():
            array = getattr(self, name)
            weight = alpha[:, None] if array.ndim == 2 else alpha
            array *= 1 - weight
            array += weight * value

    def assign(self, where: np.ndarray | slice, **properties: np.ndarray | float) -> None:
        """Overwrites properties in place at the mask or index `where`."""
        for name, value in properties.items():
            getattr(self, name)[where] = value


def _eye_albedo(head: HeadModel, part: int, rest: np.ndarray, person: Person) -> np.ndarray:
    """Albedo float32[P, 3] of an eyeball: sclera, iris and pupil."""
    ball = head.rest[head.vertex_part == part]
    out = rest - (ball.max(0) + ball.min(0)) / 2
    radius = np.hypot(out[:, 0], out[:, 1]) / _EYE_RADIUS
    fibers = sample(noise(_FIBERS), np.arctan2(out[:, 1], out[:, 0]) * 0.9, radius * 0.25)
    redness = smoothstep(0.6, 1.0, radius)
    blood = np.stack([np.ones_like(radius), 1 - 0.1 * redness, 1 - 0.12 * redness], 1)
    white = _SCLERA * (1 - 0.12 * smoothstep(0.5, 1.0, radius))[:, None] * blood
    shade = (1.25 + 0.45 * fibers) * (1 - 0.6 * smoothstep(_IRIS - 0.1, _IRIS, radius))
    iris = person.iris_color * shade[:, None]
    color = mix(white, iris, smoothstep(_IRIS + 0.025, _IRIS - 0.025, radius))
    black = np.full(3, 0.004, np.float32)
    return mix(color, black, smoothstep(_PUPIL + 0.02, _PUPIL - 0.02, radius))


def paint_eyes(material: Material, head: HeadModel, points: Points, person: Person) -> None:
    """Sets the material of both eyeballs, in place."""
    for part in (LEFT_EYE, RIGHT_EYE):
        where = np.nonzero(points.part == part)[0]
        if len(where):
            color = _eye_albedo(head, part, points.rest[where], person)
            material.assign(where, albedo=color, specular=0.5, shininess=90)


def paint_mouth(material: Material, points: Points) -> None:
    """Sets the material of teeth and tongue, in place."""
    teeth = np.nonzero((points.part == UPPER_TEETH) | (points.part == LOWER_TEETH))[0]
    x, _, z = points.rest[teeth].T
    gap = np.abs(np.mod(np.arctan2(x, z - 1.0) * 7.5, 1) - 0.5)
    color = _ENAMEL * (1 - 0.5 * smoothstep(0.42, 0.5, gap))[:, None]
    material.assign(teeth, albedo=color, specular=0.4, shininess=40, scatter=0.3, in_mouth=1)
    tongue = points.part == TONGUE
    material.assign(tongue, albedo=_TONGUE_RED, specular=0.3, scatter=0.3, in_mouth=1)


def paint_long_hair(material: Material, points: Points, person: Person) -> None:
    """Sets the material of the long-hair mesh, in place."""
    where = np.nonzero(points.part == HAIR)[0]
    if len(where):
        strands = hair.long_hair_strands(points.rest[where], person)
        color = person.hair_color * (1 + 0.45 * np.clip(strands, -1.5, 2))[:, None]
        material.assign(where, albedo=color, specular=0.25, shininess=12, height=0.02 * strands)


def collar_height(rest: np.ndarray, neckline: str) -> np.ndarray:
    """Returns the y of the collar, float32[P], at the x and z of each point."""
    lateral, z = np.abs(rest[:, 0]), rest[:, 2]
    if neckline == "turtleneck":
        return 5.99 + 0.2 * smoothstep(0.9, 0.2, z)
    base = 5.74 + 0.33 * (0.75 - z)  # around the base of the neck
    if neckline == "crew":
        return base
    opening = np.clip(1 - lateral / 0.38, 0, 1) * smoothstep(0.25, 0.5, z)
    if neckline == "v":
        return base - 0.6 * opening
    # A shirt: a stand-up collar, open in front.
    return base + 0.17 - 0.55 * opening


def paint_clothes(material: Material, rest: np.ndarray, person: Person) -> None:
    """Blends cloth over the body below the collar, in place; `rest`: float32[P, 3]."""
    x, y, z = rest.T
    above = y - collar_height(rest, person.neckline)
    cloth = smoothstep(0.01, -0.01, above)
    weave = sample(noise(_FABRIC), x * 1.5, y * 1.5 + z)
    hem = bump(above + 0.07, 0.012)
    color = person.shirt_color * (1 + 0.06 * weave - 0.3 * hem)[:, None]
    height = 0.004 * weave + 0.02 * smoothstep(0, -0.02, above) - 0.012 * hem
    material.blend(cloth, albedo=color, scatter=0.0, height=height)
    material.specular[:] *= 1 - 0.9 * cloth
