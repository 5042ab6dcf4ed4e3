"""Specification of a rendered set: the people, and the images of each.

`presets` has the named specs. All randomness is a pure function of
(seed, subject, shot).
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
"""Version of the renderer. Raise it with any change of a pixel: it is part of `Spec.digest`."""

# Purpose of a random stream: the third word of its seed.
PERSON, STUDIO, SHOT = range(3)


class Shot(NamedTuple):
    """One image to render.

    Attributes:
      expression: one of `labels.EMOTIONS`.
      yaw: nominal camera angle, degrees.
      gaze: one of `expression.GAZES`.
      session: from 0.
      view: index among the yaws of the same expression, gaze and session.
    """

    expression: str
    yaw: float
    gaze: str
    session: int
    view: int


@dataclasses.dataclass(frozen=True)
class Spec:
    """A set of images.

    Attributes:
      name: prefix of the folder; does not affect the images.
      seed: another seed gives other people.
      subjects: number of people; a larger number leaves the first ones unchanged.
      size: side of the square images, pixels.
      expressions: the emotions that each person shows.
      yaws: camera angles in degrees, -90 to 90; 0 is frontal.
      yaw_range: if not 0, yaw is uniform in [-yaw_range, yaw_range] and `yaws` is unused.
      views: yaws per expression, drawn from `yaws` without replacement; 0 uses all.
      gazes: gaze directions, one image each.
      sessions: repetitions with another background.
      wild: 0 (studio) to 1 (in the wild).
      glasses: probability that a person wears glasses.
      occlusion: probability that an object covers part of the face.
      fill: range of the head height as a fraction of the image height.
      supersample: factor between the rendered and the final size.
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
        """Hash of every field that affects the images: twelve hex digits."""
        fields = dataclasses.asdict(self) | {"renderer": RENDERER}
        del fields["name"], fields["subjects"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Folder name of the set, unique by `digest`."""
        return f"{self.name}-{self.digest}"

    @property
    def images_per_subject(self) -> int:
        """Number of images of each person."""
        return len(self.expressions) * len(self.gazes) * self.sessions * self._views

    @property
    def _views(self) -> int:
        return self.views or (1 if self.yaw_range else len(self.yaws))

    def rng(self, subject: int, purpose: int, *key: int) -> np.random.Generator:
        """Returns an independent random stream for one purpose."""
        return np.random.default_rng([self.seed, subject, purpose, *key])

    def shots(self, subject: int) -> list[Shot]:
        """Returns the shots of a person, in order."""
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
    """Returns the part of the random seed that identifies a shot."""
    return labels.EMOTIONS.index(expression), GAZES.index(gaze), session
