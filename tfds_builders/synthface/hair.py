"""Hair: its coverage of the scalp, its volume, and the separate mesh of long hair.

Works in rest space (see `head`): x to the subject's left, y up, z forward, in decimeters.
"""

from __future__ import annotations

import numpy as np

from tfds_builders.synthface.identity import Person
from tfds_builders.synthface.texture import (
    bump,
    noise,
    sample,
    smoothstep,
)

# Height (y) of the hairline at depths (z) from the nape to the forehead, decimeters.
_LINE_DEPTH = (-0.5, -0.3, 0.2, 0.75, 1.25)
_LINE_HEIGHT = (6.7, 6.78, 7.16, 7.62, 8.02)

_LIFT_NOISE, _EDGE_NOISE, _CURL_NOISE = 11, 9, 12


def _hairline(rest: np.ndarray, shift: np.ndarray | float) -> np.ndarray:
    z = rest[:, 2]
    line = np.interp(z, _LINE_DEPTH, _LINE_HEIGHT).astype(np.float32)
    return line + shift * smoothstep(0.3, 0.9, z)


def scalp(rest: np.ndarray, shift: np.ndarray | float) -> np.ndarray:
    """Returns the scalp mask float32[P] at `rest` float32[P, 3]; `shift` moves the hairline up."""
    lateral, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    temples = 0.12 * bump(lateral - 0.5, 0.13) * smoothstep(0.6, 0.9, z)
    line = _hairline(rest, shift) - 0.02 * smoothstep(0.75, 1.05, z) + temples
    sideburn = smoothstep(0.6, 0.68, lateral) * smoothstep(0.92, 0.74, z)
    sideburn *= smoothstep(0.5, 0.62, z) * smoothstep(7.0, 7.35, y)
    grows = np.maximum(smoothstep(-0.08, 0.07, y - line), 0.85 * sideburn)
    ear = smoothstep(0.735, 0.76, lateral) * smoothstep(0.2, 0.3, z) * smoothstep(7.5, 7.42, y)
    return grows * (1 - ear)


def lift(rest: np.ndarray, person: Person) -> np.ndarray:
    """Returns the hair volume float32[V] at each vertex of the rest head, decimeters; 0 if bald."""
    if person.hair_style == "bald":
        return np.zeros(len(rest), np.float32)
    x, y, z = rest.T
    above = np.clip((y - _hairline(rest, person.hairline) + 0.02) / 0.5, 0, 1)
    full = above**0.6 * (0.55 + 0.45 * smoothstep(7.6, 8.2, y))
    place = x * 0.35 + person.texture_offset[0], y * 0.35 + z * 0.3
    uneven = 1 + 0.25 * sample(noise(_LIFT_NOISE), *place)
    curls = sample(noise(_CURL_NOISE), x * 0.3 + z * 0.2, y * 0.3 + z * 0.15)
    parted = 1 - 0.6 * _parting(rest, person)
    grown = smoothstep(0.2, 1.0, scalp(rest, person.hairline))
    shape = (uneven + 0.12 * person.curl * curls) * parted
    return grown * full * person.hair_volume * 1.6 * shape


def _parting(rest: np.ndarray, person: Person) -> np.ndarray:
    """Mask float32[P] of the parting; only straight hair of some length has one."""
    x, y, z = rest.T
    line = bump(x - person.parting, 0.035) * smoothstep(8.0, 8.25, y) * smoothstep(0.1, 0.4, z)
    return line * (person.curl < 0.3) * (person.hair_style != "buzz")


def _curled(strands: np.ndarray, rest: np.ndarray, person: Person) -> np.ndarray:
    """Blends the directional noise of straight strands with isotropic noise by `person.curl`."""
    x, y, z = rest.T
    curls = sample(noise(_CURL_NOISE), x * 1.7 + z * 1.1, y * 1.7 - z * 0.9)
    return strands + (curls - strands) * person.curl


def scalp_strands(rest: np.ndarray, person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hair coverage and the strand noise of the scalp, both float32[P]."""
    x, y, z = rest.T
    edge = 0.03 * sample(noise(_EDGE_NOISE), x * 3 + z * 2, y * 0.5)
    around = np.arctan2(x - person.parting * smoothstep(7.6, 8.2, y), 0.5 - z + 1e-3)
    strands = sample(noise(person.hair_texture), around * 1.3 + 0.15 * y, y * 0.22 + z * 0.12)
    strands = _curled(strands, rest, person) - 1.5 * _parting(rest, person)
    return scalp(rest, person.hairline + edge), strands


def long_hair_strands(rest: np.ndarray, person: Person) -> np.ndarray:
    """Returns the strand noise float32[P] on the long-hair mesh."""
    x, y, z = rest.T
    around = np.arctan2(x, 0.45 - z) * 1.1
    around = around + 0.02 * person.curl * np.sin(y * 14)
    return sample(noise(person.hair_texture), around + 0.04 * y, y * 0.08)


def long_hair_alpha(rest: np.ndarray, person: Person) -> np.ndarray:
    """Returns bool[P], the alpha mask of the long-hair mesh: ragged edges at the end and face."""
    x, y, z = rest.T
    ragged = sample(noise(person.hair_texture), np.arctan2(x, 0.45 - z) * 1.3, y * 0.05)
    front = 0.62 + 0.05 * ragged + person.fringe * smoothstep(7.2, 8.1, y)
    over = (z < front) | (y > 8.0 + 0.03 * ragged)
    return over & (y > person.hair_end - 0.09 * ragged)
