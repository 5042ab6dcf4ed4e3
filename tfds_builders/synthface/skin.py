"""Skin material: complexion, lips, brows, beard, scalp hair and bump height.

Features are placed in rest space (see `head`), at positions measured on the rest
head. Colors are linear RGB, chosen by eye.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfds_builders.synthface import hair, material, wrinkles
from tfds_builders.synthface.head import BODY, HeadModel
from tfds_builders.synthface.identity import Person
from tfds_builders.synthface.material import Material
from tfds_builders.synthface.surface import Points
from tfds_builders.synthface.texture import (
    bump,
    mix,
    noise,
    sample,
    smoothstep,
)

# Albedo from low to high melanin.
_COMPLEXIONS = np.array([
    [0.76, 0.47, 0.36], [0.66, 0.38, 0.26], [0.50, 0.27, 0.17],
    [0.30, 0.145, 0.085], [0.13, 0.06, 0.037], [0.062, 0.03, 0.02],
])  # fmt: skip
_LIP_TINT = np.array([0.88, 0.55, 0.56], np.float32)
_LIPSTICK = np.array([0.38, 0.045, 0.06], np.float32)
_INNER_MOUTH = np.array([0.16, 0.035, 0.03], np.float32)

_COARSE, _FINE, _PORES, _BEARD, _BROW = 1, 2, 3, 5, 7  # seeds of noise textures


def complexion(melanin: float) -> np.ndarray:
    """Returns the skin albedo float32[3], linear RGB, for melanin in [0, 1]."""
    steps = np.linspace(0, 1, len(_COMPLEXIONS))
    return np.array([np.interp(melanin, steps, c) for c in _COMPLEXIONS.T], np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class _Canvas:
    """Inputs shared by the functions below.

    Attributes:
      rest: float32[P, 3], rest-space position.
      texture: float32[P, 2], UVs.
      person: the person.
      tone: float32[3], skin albedo.
      coarse, fine: float32[P], noise.
      lips, lids, inner_mouth: float32[P], masks.
    """

    rest: np.ndarray
    texture: np.ndarray
    person: Person
    tone: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    lips: np.ndarray
    lids: np.ndarray
    inner_mouth: np.ndarray

    @property
    def x(self) -> np.ndarray:
        return self.rest[:, 0]

    @property
    def y(self) -> np.ndarray:
        return self.rest[:, 1]

    @property
    def z(self) -> np.ndarray:
        return self.rest[:, 2]

    @property
    def lateral(self) -> np.ndarray:
        """Distance from the midline, decimeters."""
        return np.abs(self.rest[:, 0])

    @property
    def front(self) -> np.ndarray:
        """Mask of the front of the head."""
        return smoothstep(0.5, 1.0, self.rest[:, 2])


def _canvas(head: HeadModel, points: Points, person: Person) -> _Canvas:
    u, v = points.texture.T
    shift_u, shift_v = person.texture_offset

    def mask(name: str) -> np.ndarray:
        return sample(head.masks[name], u, 1 - v) * np.float32(1 / 255)

    return _Canvas(
        rest=points.rest,
        texture=points.texture,
        person=person,
        tone=complexion(person.skin),
        coarse=sample(noise(_COARSE), u * 3.1 + shift_u, v * 3.1 + shift_v),
        fine=sample(noise(_FINE), u * 9.7 + shift_v, v * 9.7 + shift_u),
        lips=mask("lips"),
        lids=mask("eyelids"),
        inner_mouth=mask("inside_mouth"),
    )


def _blood(canvas: _Canvas) -> np.ndarray:
    """Redness float32[P] of cheeks, nose, chin and ears."""
    lateral, y = canvas.lateral, canvas.y
    cheeks = 0.9 * bump(lateral - 0.42, 0.17) * bump(y - 6.98, 0.17)
    nose = 0.9 * bump(lateral, 0.13) * bump(y - 6.98, 0.1)
    chin = 0.4 * bump(lateral, 0.2) * bump(y - 6.35, 0.12)
    ears = 0.8 * smoothstep(0.74, 0.8, lateral) * smoothstep(6.8, 6.95, y)
    shows = canvas.person.redness * (1 - 0.75 * canvas.person.skin)
    return ((cheeks + nose + chin) * canvas.front + ears) * shows + 0.12 * canvas.coarse


def _bare_skin(canvas: _Canvas) -> np.ndarray:
    """Albedo float32[P, 3] with redness, dark eye sockets, freckles and age spots."""
    person, lateral, y = canvas.person, canvas.lateral, canvas.y
    blood = _blood(canvas)
    color = np.stack([1 + 0.08 * blood, 1 - 0.17 * blood, 1 - 0.15 * blood], 1) * canvas.tone
    shade = 1 + 0.035 * canvas.coarse + 0.03 * canvas.fine
    socket = bump(lateral - 0.28, 0.15) * bump(y - 7.27, 0.07) * canvas.front
    shade *= (1 - (0.16 + 0.16 * person.age) * socket) * (1 - 0.16 * canvas.lids)
    if person.freckles:
        spots = smoothstep(1.1, 1.8, canvas.fine) * canvas.front * bump(y - 7.05, 0.3)
        shade *= 1 - 0.4 * person.freckles * spots
    if person.age > 0.4:
        spots = smoothstep(1.2, 2.0, canvas.coarse + 0.4 * canvas.fine)
        shade *= 1 - 0.35 * (person.age - 0.4) * spots
    return color * shade[:, None]


def _lip_color(canvas: _Canvas) -> np.ndarray:
    natural = canvas.tone * _LIP_TINT * (1 - 0.2 * canvas.person.skin)
    return natural + (_LIPSTICK - natural) * (canvas.person.lipstick * 0.6)


def _add_beard(color: np.ndarray, canvas: _Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Blends beard and mustache over `color`; returns albedo and bump height."""
    person, lateral, y = canvas.person, canvas.lateral, canvas.y
    under_lip = 0.8 * bump(lateral, 0.07) * bump(y - 6.5, 0.05)
    jaw = smoothstep(6.98, 6.75, y - 0.45 * smoothstep(0.3, 0.62, lateral))
    jaw *= smoothstep(6.0, 6.25, y) * smoothstep(0.3, 0.62, canvas.z)
    jaw *= (1 - canvas.lips) * (1 - under_lip)
    mustache = bump(y - 6.845, 0.045) * smoothstep(0.26, 0.2, lateral) * canvas.front
    grows = np.clip(np.maximum(jaw, mustache), 0, 1)
    u, v = canvas.texture.T
    strands = sample(noise(_BEARD), u * 23 + 0.1 * canvas.coarse, v * 12)
    strands = 0.6 * strands + 0.4 * canvas.coarse
    cover = np.clip(grows * person.beard * (0.95 + 0.3 * strands), 0, 0.93)
    shade = 0.9 * (0.8 + 0.5 * np.clip(strands, -0.5, 1))
    hairs = person.hair_color * shade[:, None] + canvas.tone * 0.06
    return mix(color, hairs, cover), 0.004 * person.beard * grows * strands


def _brow_cover(canvas: _Canvas) -> np.ndarray:
    """Alpha float32[P] of the eyebrows."""
    person, lateral, y = canvas.person, canvas.lateral, canvas.y
    along = np.clip((lateral - 0.085) / (0.5 - 0.085), 0, 1)
    middle = 7.507 + person.brow_arch * 0.5 + (0.056 + person.brow_arch) * np.sin(along * 2.3)
    half = (0.038 * (1 - along) ** 0.6 + 0.012) * person.brow_thickness
    half *= smoothstep(-0.02, 0.12, along + 0.06)
    inside = smoothstep(1.15, 0.55, np.abs(y - middle) / half)
    inside *= smoothstep(0.06, 0.11, lateral) * smoothstep(0.53, 0.46, lateral) * canvas.front
    slant = lateral * 0.9 + 0.8 * (y - 7.5) * (1 - 2 * along)
    strands = sample(
        noise(_BROW), slant * 3.3 + person.texture_offset[0], (y - lateral * 0.25) * 1.1
    )
    return np.clip(inside**0.7 * person.brow_density * (0.8 + 0.16 * strands), 0, 0.96)


def _bump_height(canvas: _Canvas, action_units: Mapping[str, float]) -> np.ndarray:
    u, v = canvas.texture.T
    creases = wrinkles.heights(
        canvas.rest, action_units, canvas.person.age, canvas.coarse, canvas.fine
    )
    return creases + 0.0010 * canvas.fine + 0.0007 * sample(noise(_PORES), u * 31, v * 31)


def _add_scalp(painted: Material, canvas: _Canvas) -> None:
    """Blends scalp hair, or the stubble of a bald head, over the skin in place."""
    person = canvas.person
    if person.hair_style == "bald":
        stubble = 0.25 * hair.scalp(canvas.rest, person.hairline) * (0.7 + 0.3 * canvas.fine)
        stubble *= 1.0 if person.beard > 0.2 else 0.3
        painted.blend(stubble, albedo=person.hair_color)
        return
    grows, strands = hair.scalp_strands(canvas.rest, person)
    if person.hair_style == "buzz":
        grows = grows * np.clip(0.8 + 0.1 * canvas.fine, 0, 1)
    color = person.hair_color * (1 + 0.38 * np.clip(strands, -2, 2))[:, None]
    height = 0.02 * strands
    painted.blend(grows, albedo=color, height=height, specular=0.22, shininess=12.0, scatter=0.0)


def paint(
    target: Material,
    head: HeadModel,
    points: Points,
    person: Person,
    action_units: Mapping[str, float],
) -> None:
    """Sets the material of the body part, including clothes, in place."""
    where = np.nonzero(points.part == BODY)[0]
    canvas = _canvas(head, points.take(where), person)
    painted = Material.blank(len(where))
    color = mix(_bare_skin(canvas), _lip_color(canvas), 0.82 * canvas.lips)
    height = _bump_height(canvas, action_units)
    if person.beard > 0.03:
        color, beard_height = _add_beard(color, canvas)
        height = height + beard_height
    color = mix(color, person.brow_color, _brow_cover(canvas))
    deep = _INNER_MOUTH * smoothstep(0.9, 1.42, canvas.z)[:, None]
    painted.assign(
        slice(None),
        albedo=mix(color, deep, canvas.inner_mouth),
        height=height,
        specular=0.22 + 0.15 * bump(canvas.lateral, 0.12) * canvas.front + 0.35 * canvas.lips,
        shininess=14 + 30 * canvas.lips,
        scatter=1.0,
        in_mouth=canvas.inner_mouth,
    )
    _add_scalp(painted, canvas)
    material.paint_clothes(painted, canvas.rest, person)
    for field in dataclasses.fields(Material):
        getattr(target, field.name)[where] = getattr(painted, field.name)
