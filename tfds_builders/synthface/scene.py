"""Random scenes: parameters of camera, head pose, light, background and image quality.

`wild` 0 is a studio as in KDEF and RaFD, 1 is in the wild as in RAF-DB and SFEW;
values between interpolate.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

PLAIN, BLOBS = "plain", "blobs"


@dataclasses.dataclass(frozen=True, eq=False)
class Background:
    """A background: `plain` is a wall with a soft gradient, `blobs` a blurred room.

    Attributes:
      kind: PLAIN or BLOBS.
      color: float[3], linear RGB.
    """

    kind: str
    color: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Occluder:
    """An out-of-focus object in front of the face, such as a hand or a cup: an ellipse.

    Attributes:
      center: float[2], (x, y) as fractions of the image.
      axes: float[2], half axes as fractions of the image.
      angle: degrees.
      color: float[3], linear RGB.
    """

    center: np.ndarray
    axes: np.ndarray
    angle: float
    color: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """Pose, light and camera of one image.

    Attributes:
      yaw, pitch, roll: head pose in degrees; yaw > 0 turns the nose to image right.
      distance: camera to head, decimeters.
      fill: approximate height of the head as a fraction of the image height.
      offset: float[2], shift of the head (right, down) as fractions of the image.
      key_direction: float32[3], unit vector towards the key light.
      key_color, ambient_color: float32[3], linear RGB intensity.
      rim_direction, rim_strength: float32[3] direction and intensity of the rim light.
      background: the background.
      occluder: the object in front of the face, or None.
      exposure: stops.
      noise: standard deviation of the sensor noise; the intensity range is 1.
      blur: standard deviation of the lens blur, pixels in a 256-pixel image.
      resolution: factor by which the image is downsampled and enlarged again; 1 is unchanged.
      contrast, saturation: 1 is unchanged; saturation 0 is gray.
      seed: of the background pattern and the sensor noise.
    """

    yaw: float
    pitch: float
    roll: float
    distance: float
    fill: float
    offset: np.ndarray
    key_direction: np.ndarray
    key_color: np.ndarray
    ambient_color: np.ndarray
    rim_direction: np.ndarray
    rim_strength: float
    background: Background
    occluder: Occluder | None
    exposure: float
    noise: float
    blur: float
    resolution: float
    contrast: float
    saturation: float
    seed: int


def draw_background(rng: np.random.Generator, wild: float) -> Background:
    """Draws a background. In a studio, the images of a session share it."""
    kind = PLAIN if rng.random() > 0.3 + 0.7 * wild else BLOBS
    if rng.random() < wild:
        return Background(kind, rng.uniform(0.05, 0.75, 3))
    return Background(kind, np.clip(rng.uniform(0.15, 0.75) + rng.normal(0, 0.03, 3), 0, 1))


def _tinted(rng: np.random.Generator, spread: float) -> np.ndarray:
    """White light with a random color temperature, float[3]."""
    warmth = rng.normal(0, spread)
    return np.array([1 + warmth, 1, 1 - warmth])


def _light(rng: np.random.Generator, wild: float) -> dict[str, Any]:
    azimuth = rng.uniform(-1, 1) * (0.6 + 0.9 * wild)
    height = rng.uniform(0.2, 0.9)
    key = [np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)]
    brightness = rng.uniform(1.1, 1.7) * (1 + wild * rng.uniform(-0.3, 0.3))
    has_rim = rng.random() < 0.5
    return {
        "key_direction": np.array(key, np.float32),
        "key_color": (_tinted(rng, 0.06 + 0.1 * wild) * brightness).astype(np.float32),
        "ambient_color": (
            _tinted(rng, 0.05 + 0.08 * wild) * rng.uniform(0.45, 0.8)
        ).astype(np.float32),
        "rim_direction": np.array([-np.sign(azimuth + 1e-6) * 0.8, 0.3, -0.3], np.float32),
        "rim_strength": float(rng.uniform(0, 0.5) * has_rim),
    }  # fmt: skip


def _image_quality(rng: np.random.Generator, wild: float) -> dict[str, Any]:
    exposure = rng.normal(0, 0.12 + 0.15 * wild)
    if rng.random() < 0.6 * wild:
        exposure += rng.normal(0, 0.45)
    is_poor = rng.random() < 0.5 * wild
    is_gray = rng.random() < 0.15 * wild
    return {
        "exposure": float(exposure),
        "noise": float(rng.uniform(0.002, 0.012 + 0.02 * wild)),
        "blur": float(rng.uniform(0, 0.5 + 0.6 * wild)),
        "resolution": float(rng.uniform(0.3, 0.8)) if is_poor else 1.0,
        "contrast": float(np.exp(rng.normal(0, 0.18 * wild))),
        "saturation": 0.0 if is_gray else float(np.clip(rng.normal(1, 0.35 * wild), 0, 1.5)),
    }


def _draw_occluder(rng: np.random.Generator, probability: float) -> Occluder | None:
    """Draws an ellipse that covers up to a third of the face, from below or a side."""
    happens, direction = rng.random() < probability, np.radians(rng.uniform(-20, 200))
    reach = np.array([np.cos(direction), np.sin(direction)])
    occluder = Occluder(
        center=0.5 + reach * rng.uniform(0.33, 0.42),
        axes=np.array([rng.uniform(0.15, 0.3), rng.uniform(0.08, 0.16)]),
        angle=float(np.degrees(direction) + rng.uniform(-20, 20)),
        color=rng.uniform(0.02, 0.5) * np.array([1, rng.uniform(0.5, 1), rng.uniform(0.4, 1)]),
    )
    return occluder if happens else None


def draw_scene(
    rng: np.random.Generator,
    yaw: float,
    wild: float,
    fill: tuple[float, float],
    background: Background | None = None,
    occlusion: float = 0.0,
) -> Scene:
    """Draws a scene.

    Args:
      rng: the only source of randomness.
      yaw: nominal camera angle, degrees.
      wild: 0 (studio) to 1 (in the wild).
      fill: range of the head height as a fraction of the image height.
      background: None draws one.
      occlusion: probability of an occluder in front of the face.
    """
    return Scene(
        yaw=float(yaw + rng.normal(0, 3 + 6 * wild)),
        pitch=float(rng.normal(0, 3 + 6 * wild)),
        roll=float(rng.normal(0, 1.5 + 6 * wild)),
        distance=float(rng.uniform(9, 16)),
        fill=float(rng.uniform(*fill) * (1 + wild * rng.normal(0, 0.08))),
        offset=rng.normal(0, 0.02 + 0.03 * wild, 2),
        background=background or draw_background(rng, wild),
        occluder=_draw_occluder(rng, occlusion),
        seed=int(rng.integers(1 << 30)),
        **_light(rng, wild),
        **_image_quality(rng, wild),
    )
