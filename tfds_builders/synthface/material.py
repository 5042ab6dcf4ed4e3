"""What every visible point is made of: color, shine, bumps, how deep light enters.

Eyes, teeth, tongue, hair sheet and clothes are painted here; the skin, by far
the largest part, in `skin`. Lights nothing.
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

# Eyeball, in units of its radius.
_EYE_RADIUS, _IRIS, _PUPIL = 0.145, 0.46, 0.19
_SCLERA = np.array([0.62, 0.56, 0.53], np.float32)
_ENAMEL = np.array([0.62, 0.56, 0.46], np.float32)
_TONGUE_RED = np.array([0.38, 0.12, 0.11], np.float32)
_FIBRES, _FABRIC = 8, 4


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """Properties of P points.

    Attributes:
      albedo: float32[P, 3], linear RGB.
      shine, gloss: float32[P], strength and exponent of the highlight.
      height: float32[P], decimeters of fine relief.
      scatter: float32[P], 1 where light enters the skin, 0 where it does not.
      inside: float32[P], 1 inside the mouth, where little light comes.
    """

    albedo: np.ndarray
    shine: np.ndarray
    gloss: np.ndarray
    height: np.ndarray
    scatter: np.ndarray
    inside: np.ndarray

    @classmethod
    def plain(cls, count: int) -> Material:
        """Material to be painted over: every property 0 but gloss."""
        zero = [np.zeros(count, np.float32) for _ in range(4)]
        gloss = np.full(count, 18, np.float32)
        return cls(np.zeros((count, 3), np.float32), zero[0], gloss, zero[1], zero[2], zero[3])

    def cover(self, share: np.ndarray, **properties: np.ndarray | float) -> None:
        """Blends other properties over these in place, by `share` float32[P]."""
        for name, value in properties.items():
            own = getattr(self, name)
            weight = share[:, None] if own.ndim == 2 else share
            own *= 1 - weight
            own += weight * value

    def put(self, where: np.ndarray | slice, **properties: np.ndarray | float) -> None:
        """Replaces properties in place at the mask or index `where`."""
        for name, value in properties.items():
            getattr(self, name)[where] = value


def _eye(head: HeadModel, part: int, rest: np.ndarray, person: Person) -> np.ndarray:
    """float32[P, 3], colors of an eyeball: white, iris with fibres, pupil."""
    ball = head.rest[head.vertex_part == part]
    out = rest - (ball.max(0) + ball.min(0)) / 2
    radius = np.hypot(out[:, 0], out[:, 1]) / _EYE_RADIUS
    fibres = sample(noise(_FIBRES), np.arctan2(out[:, 1], out[:, 0]) * 0.9, radius * 0.25)
    redness = smoothstep(0.6, 1.0, radius)
    blood = np.stack([np.ones_like(radius), 1 - 0.1 * redness, 1 - 0.12 * redness], 1)
    white = _SCLERA * (1 - 0.12 * smoothstep(0.5, 1.0, radius))[:, None] * blood
    shade = (1.25 + 0.45 * fibres) * (1 - 0.6 * smoothstep(_IRIS - 0.1, _IRIS, radius))
    iris = person.iris_color * shade[:, None]
    color = mix(white, iris, smoothstep(_IRIS + 0.025, _IRIS - 0.025, radius))
    black = np.full(3, 0.004, np.float32)
    return mix(color, black, smoothstep(_PUPIL + 0.02, _PUPIL - 0.02, radius))


def paint_eyes(material: Material, head: HeadModel, points: Points, person: Person) -> None:
    """Paints both eyeballs in place."""
    for part in (LEFT_EYE, RIGHT_EYE):
        where = np.nonzero(points.part == part)[0]
        if len(where):
            color = _eye(head, part, points.rest[where], person)
            material.put(where, albedo=color, shine=0.5, gloss=90)


def paint_mouth(material: Material, points: Points) -> None:
    """Paints teeth and tongue in place."""
    teeth = np.nonzero((points.part == UPPER_TEETH) | (points.part == LOWER_TEETH))[0]
    x, _, z = points.rest[teeth].T
    gap = np.abs(np.mod(np.arctan2(x, z - 1.0) * 7.5, 1) - 0.5)
    color = _ENAMEL * (1 - 0.5 * smoothstep(0.42, 0.5, gap))[:, None]
    material.put(teeth, albedo=color, shine=0.4, gloss=40, scatter=0.3, inside=1)
    tongue = points.part == TONGUE
    material.put(tongue, albedo=_TONGUE_RED, shine=0.3, scatter=0.3, inside=1)


def paint_hair_sheet(material: Material, points: Points, person: Person) -> None:
    """Paints the loose sheet of long hair in place."""
    where = np.nonzero(points.part == HAIR)[0]
    if len(where):
        strands = hair.sheet_strands(points.rest[where], person)
        color = person.hair_color * (1 + 0.45 * np.clip(strands, -1.5, 2))[:, None]
        material.put(where, albedo=color, shine=0.25, gloss=12, height=0.02 * strands)


def collar_height(rest: np.ndarray, neckline: str) -> np.ndarray:
    """float32[P], the height at which cloth ends for points at this side and depth."""
    aside, _, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    if neckline == "turtleneck":
        return 5.99 + 0.2 * smoothstep(0.9, 0.2, z)
    base = 5.74 + 0.33 * (0.75 - z)  # around the root of the neck
    if neckline == "crew":
        return base
    opening = np.clip(1 - aside / 0.38, 0, 1) * smoothstep(0.25, 0.5, z)
    if neckline == "v":
        return base - 0.6 * opening
    # A shirt: its collar stands up around the neck and opens in front.
    return base + 0.17 - 0.55 * opening


def paint_clothes(material: Material, rest: np.ndarray, person: Person) -> None:
    """Covers body points at `rest` float32[P, 3] with cloth."""
    x, y, z = rest.T
    above = y - collar_height(rest, person.neckline)
    cloth = smoothstep(0.01, -0.01, above)
    weave = sample(noise(_FABRIC), x * 1.5, y * 1.5 + z)
    hem = bump(above + 0.07, 0.012)
    color = person.shirt_color * (1 + 0.06 * weave - 0.3 * hem)[:, None]
    relief = 0.004 * weave + 0.02 * smoothstep(0, -0.02, above) - 0.012 * hem
    material.cover(cloth, albedo=color, scatter=0.0, height=relief)
    material.shine[:] *= 1 - 0.9 * cloth
