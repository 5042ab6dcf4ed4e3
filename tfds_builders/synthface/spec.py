"""What to render: a set of people, and which pictures are taken of each.

A `Spec` is data; `presets` are the sets this project ships or renders on
demand. Everything random in a set is a pure function of (seed, subject, shot).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import NamedTuple

import numpy as np

from fer_jax import labels
from tfds_builders.synthface.expression import GAZES

RENDERER = 1
"""Version of the pictures: raise it with any change that alters a pixel, so that no cache mixes."""

# What a random stream is for: the third word of its seed.
PERSON, STUDIO, SHOT = range(3)


class Shot(NamedTuple):
    """One picture to take. yaw: nominal, degrees; session counts from 0; view: its number."""

    expression: str
    yaw: float
    gaze: str
    session: int
    view: int


@dataclasses.dataclass(frozen=True)
class Spec:
    """A set of pictures.

    Attributes:
      name: of the folder; does not change a pixel.
      seed: other seeds give other people.
      subjects: number of people; raising it leaves the others as they are.
      size: side of the square pictures, pixels.
      expressions: which emotions each person shows.
      yaws: camera angles in degrees, -90 to 90; 0 is frontal.
      yaw_range: if not 0, yaw is drawn evenly from plus or minus this; `yaws` is then unused.
      views: yaws per expression, drawn from `yaws` without repeats; 0 takes every one.
      gazes: directions of the eyes, each one a picture.
      sessions: repeats on another day, before another wall.
      wild: 0 studio to 1 in the wild.
      glasses: share of the people who wear them.
      occlusion: share of the pictures with something before a part of the face.
      fill: range of the head's share of the picture's height.
      supersample: the render's side over the picture's.
      jpeg_quality: 1 to 100.
    """

    name: str
    seed: int
    subjects: int
    size: int = 128
    expressions: tuple[str, ...] = labels.SEVEN
    yaws: tuple[float, ...] = (0.0,)
    yaw_range: float = 0.0
    views: int = 0
    gazes: tuple[str, ...] = ("frontal",)
    sessions: int = 1
    wild: float = 0.0
    glasses: float = 0.0
    occlusion: float = 0.0
    fill: tuple[float, float] = (0.68, 0.82)
    supersample: int = 2
    jpeg_quality: int = 88

    def __post_init__(self) -> None:
        unknown = set(self.expressions) - set(labels.EMOTIONS) or set(self.gazes) - set(GAZES)
        if unknown:
            raise ValueError(f"expected names from {labels.EMOTIONS} and {GAZES}, found {unknown}")

    @property
    def digest(self) -> str:
        """Twelve hex digits of all that alters a picture."""
        fields = dataclasses.asdict(self) | {"renderer": RENDERER}
        del fields["name"], fields["subjects"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Name of the folder that holds the set: another for every other set of pictures."""
        return f"{self.name}-{self.digest}"

    @property
    def images_per_subject(self) -> int:
        """How many shots `shots` gives for each person."""
        return len(self.expressions) * len(self.gazes) * self.sessions * self._views

    @property
    def _views(self) -> int:
        return self.views or (1 if self.yaw_range else len(self.yaws))

    def rng(self, subject: int, purpose: int, *key: int) -> np.random.Generator:
        """The random stream of one purpose; independent of all others."""
        return np.random.default_rng([self.seed, subject, purpose, *key])

    def shots(self, subject: int) -> list[Shot]:
        """The pictures taken of a person, in order."""
        return [
            Shot(expression, yaw, gaze, session, view)
            for session in range(self.sessions)
            for expression in self.expressions
            for gaze in self.gazes
            for view, yaw in enumerate(self._yaws(subject, expression, gaze, session))
        ]

    def _yaws(self, subject: int, expression: str, gaze: str, session: int) -> list[float]:
        if not self.yaw_range and not self.views:
            return list(self.yaws)
        rng = self.rng(subject, SHOT, *shot_key(expression, gaze, session))
        if self.yaw_range:
            return rng.uniform(-self.yaw_range, self.yaw_range, self._views).tolist()
        return rng.choice(self.yaws, self._views, replace=False).tolist()


def shot_key(expression: str, gaze: str, session: int) -> tuple[int, int, int]:
    """The words of a shot's seed."""
    return labels.EMOTIONS.index(expression), GAZES.index(gaze), session
