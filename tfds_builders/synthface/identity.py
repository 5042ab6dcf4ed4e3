"""Random people: parameters of bone structure, age, skin, hair and clothes.

`geometry` and the material modules turn the parameters into a head. The
distributions are chosen by eye; they do not follow any population statistics.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfds_builders.synthface.head import ANCESTRIES, SEXES, HeadModel

HAIR_STYLES = ("long", "short", "buzz", "bald")
NECKLINES = ("turtleneck", "crew", "v", "shirt")
_NECKLINE_PROBABILITIES = (0.2, 0.35, 0.2, 0.25)

# Standard deviation of the weight of a local shape, by region.
_STDDEV = {"head": 0.22, "neck": 0.15, "mouth": 0.28, "ears": 0.35}
_DEFAULT_STDDEV = 0.33
# Shapes that look unnatural at moderate weights.
_TINY = ("head-trans", "neck-trans", "septum", "trans-in")
_SMALL = (
    "eye-push", "prognathism", "lowerlip-ext", "upperlip-ext",
    # These look like an expression, so a neutral face must not have much of them.
    "mouth-angles", "eyebrows-angle", "lip-middle",
)  # fmt: skip

# Linear RGB.
_DARK_HAIR = (0.012, 0.009, 0.008)
_LIGHT_HAIR = ((0.06, 0.03, 0.015), (0.16, 0.085, 0.035), (0.33, 0.2, 0.08), (0.14, 0.04, 0.015))
_GRAY_HAIR = (0.4, 0.4, 0.4)
_IRISES = (
    (0.05, 0.022, 0.01), (0.09, 0.045, 0.018), (0.12, 0.1, 0.04),
    (0.05, 0.085, 0.125), (0.075, 0.095, 0.085),
)  # fmt: skip
_MELANIN = (0.82, 0.33, 0.15)  # mean for each of ANCESTRIES


@dataclasses.dataclass(frozen=True, eq=False)
class Person:
    """Parameters of a person that are the same in every image.

    Attributes:
      shapes: weights of the head model's identity blend shapes.
      male: 0 (female) to 1 (male) bone structure.
      age: 0 (young) to 1 (old).
      skin: melanin, 0 (light) to 1 (dark).
      redness: strength of the blood color, 0 to 1.
      hair_color, brow_color, iris_color, shirt_color: float32[3], linear RGB.
      hair_style: one of HAIR_STYLES.
      curl: 0 (straight) to 1 (tight curls).
      parting: x of the parting, decimeters to the subject's left.
      neckline: one of NECKLINES.
      glasses: float32[3] frame color, linear RGB; None without glasses.
      hairline: offset above the mean hairline, decimeters.
      hair_volume: thickness of the hair, decimeters.
      hair_end: y of the lower end of long hair, decimeters.
      fringe: how far long hair covers the forehead, decimeters.
      hair_texture: seed of the hair's noise texture.
      beard, freckles, lipstick, lashes: strength; 0 is none.
      brow_thickness, brow_arch, brow_density: shape of the eyebrows.
      texture_offset: float32[2], UV offset into the skin's noise textures.
      scale: size of the head relative to the model.
    """

    shapes: dict[str, float]
    male: float
    age: float
    skin: float
    redness: float
    hair_color: np.ndarray
    brow_color: np.ndarray
    iris_color: np.ndarray
    hair_style: str
    curl: float
    parting: float
    neckline: str
    glasses: np.ndarray | None
    hairline: float
    hair_volume: float
    hair_end: float
    hair_texture: int
    beard: float
    brow_thickness: float
    brow_arch: float
    brow_density: float
    lipstick: float
    freckles: float
    shirt_color: np.ndarray
    texture_offset: np.ndarray
    scale: float
    fringe: float
    lashes: float


def _three_level_weights(value: float, names: tuple[str, str, str]) -> list[tuple[str, float]]:
    """Linear interpolation weights of the shapes at 0, 0.5 and 1 for a value in [0, 1]."""
    weights = max(0.0, 1 - 2 * value), 1 - abs(2 * value - 1), max(0.0, 2 * value - 1)
    return list(zip(names, weights, strict=True))


def _macro_shapes(
    male: float, age: float, ancestry: np.ndarray, muscle: float, weight: float
) -> dict[str, float]:
    """Weights of MakeHuman's macro shapes: products over sex, age, ancestry, muscle and weight."""
    muscles = _three_level_weights(muscle, ("minmuscle", "averagemuscle", "maxmuscle"))
    weights = _three_level_weights(weight, ("minweight", "averageweight", "maxweight"))
    shapes = {}
    for sex, sex_share in zip(SEXES, (1 - male, male), strict=True):
        for years, age_share in (("young", 1 - age), ("old", age)):
            share = sex_share * age_share
            for name, part in zip(ANCESTRIES, ancestry, strict=True):
                shapes[f"macro/{name}-{sex}-{years}"] = share * float(part)
            for muscle_name, muscle_share in muscles:
                for weight_name, weight_share in weights:
                    name = f"macro/universal-{sex}-{years}-{muscle_name}-{weight_name}"
                    shapes[name] = share * muscle_share * weight_share
    return shapes


def _stddev(shape: str) -> float:
    if any(word in shape for word in _TINY):
        return 0.05
    if any(word in shape for word in _SMALL):
        return 0.12
    return _STDDEV.get(shape.split("/")[1], _DEFAULT_STDDEV)


def _local_shapes(head: HeadModel, rng: np.random.Generator) -> dict[str, float]:
    """Random weights of about sixty local shapes and a few asymmetries."""
    shapes = {}
    for negative, positive in head.opposite_pairs:
        if rng.random() < 0.65:
            strength = float(np.clip(rng.normal(0, _stddev(negative)), -0.75, 0.75))
            shapes[positive if strength > 0 else negative] = abs(strength)
    for name in head.single_shapes:
        if "head/" in name and rng.random() < 0.25:
            shapes[name] = float(rng.uniform(0, 0.4))
    for name in head.asymmetries:
        if rng.random() < 0.3:
            shapes[name] = float(abs(rng.normal(0, 0.15)))
    return shapes


def _colors(rng: np.random.Generator, age: float, dark: bool) -> dict[str, Any]:
    base = np.array(_DARK_HAIR if dark else _LIGHT_HAIR[rng.integers(len(_LIGHT_HAIR))])
    gray = np.clip((age - 0.45) * 2 * rng.random() * 2, 0, 1)
    hair = base * rng.uniform(0.7, 1.4) * (1 - gray) + gray * np.array(_GRAY_HAIR)
    iris = 0 if dark and rng.random() < 0.7 else rng.integers(len(_IRISES))
    return {
        "hair_color": hair.astype(np.float32),
        "brow_color": (hair * 0.6 + base * 0.25).astype(np.float32),
        "iris_color": np.array(_IRISES[iris], np.float32),
    }


def _hair_style(rng: np.random.Generator, male: float) -> str:
    shares = (0.68, 0.28, 0.03, 0.01) if male < 0.5 else (0.06, 0.58, 0.22, 0.14)
    return str(rng.choice(HAIR_STYLES, p=shares))


def _glasses(rng: np.random.Generator, share: float) -> np.ndarray | None:
    """Frame color: dark, metal or tinted."""
    wears, kind, tint = rng.random() < share, rng.integers(3), rng.uniform(0.01, 0.12, 3)
    if not wears:
        return None
    frame = ((0.01, 0.01, 0.012), (0.1, 0.095, 0.085), tuple(tint))[kind]
    return np.array(frame, np.float32)


def _grooming(
    rng: np.random.Generator, male: float, age: float, skin: float, african: float
) -> dict[str, Any]:
    recedes = 0.12 if male > 0.5 and age > 0.4 and rng.random() < 0.5 else 0.0
    style = _hair_style(rng, male)
    volume = (0.005, 0.02) if style == "buzz" else (0.04, 0.2)
    curly = rng.random() < 0.15 + 0.7 * african
    return {
        "hair_style": style,
        "curl": float(rng.uniform(0.4, 1) if curly else rng.uniform(0, 0.15)),
        "parting": float(rng.normal(0, 0.25)),
        "neckline": str(rng.choice(NECKLINES, p=_NECKLINE_PROBABILITIES)),
        "hairline": float(rng.normal(0, 0.05)) + recedes,
        "hair_volume": float(rng.uniform(*volume)) * (1.35 if curly and style == "short" else 1.0),
        "hair_end": float(rng.uniform(4.2, 6.9)),
        "hair_texture": 20 + int(rng.integers(50)),
        "fringe": float(rng.uniform(0.05, 0.45)),
        "beard": float(rng.beta(0.5, 1.0)) * (male > 0.55) if rng.random() < 0.75 else 0.0,
        "brow_thickness": float(rng.uniform(0.7, 1.15) * (0.8 + 0.45 * male)),
        "brow_arch": float(rng.normal(0, 0.02)),
        "brow_density": float(rng.uniform(0.55, 1)),
        "lipstick": float(rng.uniform(0, 1) * (1 - 0.75 * male)),
        "freckles": float(max(0, rng.normal(-0.2, 0.5))) * (skin < 0.4),
        "lashes": float(rng.uniform(0.35, 0.7) + 0.35 * (male < 0.5) * rng.random()),
    }


def draw_person(head: HeadModel, rng: np.random.Generator, glasses: float = 0.0) -> Person:
    """Draws a person; `glasses` is the probability of glasses. Deterministic given `rng`."""
    male = float(rng.beta(0.35, 0.35))
    age = float(rng.beta(1.2, 2.2)) * 0.85
    ancestry = rng.dirichlet([0.55] * len(ANCESTRIES))
    shapes = _macro_shapes(male, age, ancestry, rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.85))
    # The average muscle and weight are the base mesh, which has no shape.
    shapes = {name: share for name, share in shapes.items() if name in head.shape_index}
    shapes |= _local_shapes(head, rng)
    skin = float(np.clip(ancestry @ _MELANIN + rng.normal(0, 0.08), 0.03, 0.97))
    redness = float(rng.uniform(0.2, 1))
    dark = bool(rng.random() < 0.45 + 0.5 * (ancestry[0] + ancestry[1]))
    plain = rng.random() < 0.4
    shirt = np.full(3, rng.uniform(0.05, 0.6)) if plain else rng.uniform(0.02, 0.7, 3)
    return Person(
        shapes=shapes,
        male=male,
        age=age,
        skin=skin,
        redness=redness,
        shirt_color=shirt.astype(np.float32),
        texture_offset=rng.uniform(0, 1, 2).astype(np.float32),
        scale=float(rng.normal(1, 0.02)),
        **_colors(rng, age, dark),
        glasses=_glasses(rng, glasses),
        **_grooming(rng, male, age, skin, float(ancestry[0])),
    )
