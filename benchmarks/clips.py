"""Rendered clips of known people with known expressions: the truth for `benchmarks.tracking`.

People slide through a room behind and in front of each other. Each frame of each person is rendered
anew: the head turns, and the expression changes every one to three seconds. A clip is an mp4 file
with a JSON file of who is where, and how much of the face is visible.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders.synthface import geometry, surface
from tfds_builders.synthface.expression import Expression, draw_expression
from tfds_builders.synthface.geometry import NeutralHead
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.render import render
from tfds_builders.synthface.scene import draw_scene

WIDTH, HEIGHT, RATE = 640, 360, 12.5  # pixels, frames per second

_SPRITE = 230  # pixels, side of a rendered person
_POLE = -1  # owner of pixels that are an object's
_TURN = 15.0  # degrees that a head turns to either side
_SEGMENT = (1.0, 3.0)  # seconds of one expression


class Walk(NamedTuple):
    """A person who slides along a line during a shot; the later in the list, the nearer.

    Attributes:
      person: number.
      start, end: center as a fraction of the width, outside [0, 1] for out of view.
      size: of the person, 1 is `_SPRITE` pixels.
    """

    person: int
    start: float
    end: float
    size: float = 1.0


class Shot(NamedTuple):
    """A part of a clip; another room than before is a cut.

    Attributes:
      room: seed of background and light.
      seconds: its length.
      walks: who is there.
      pole: start and end of a pole in front of everybody, as fractions of the width; or None.
    """

    room: int
    seconds: float
    walks: tuple[Walk, ...]
    pole: tuple[float, float] | None = None


def _crossings() -> list[Shot]:
    there = (Walk(0, 0.15, 0.85), Walk(1, 0.5, 0.5, 0.9), Walk(2, 0.85, 0.15))
    back = tuple(walk._replace(start=walk.end, end=walk.start) for walk in there)
    return [Shot(0, 6, there), Shot(0, 6, back)] * 2


def _occlusions() -> list[Shot]:
    still = (Walk(3, 0.2, 0.25), Walk(4, 0.55, 0.5), Walk(5, 0.8, 0.85))
    return [
        Shot(1, 8, still, pole=(-0.1, 1.1)),
        Shot(1, 3, tuple(walk._replace(start=walk.end) for walk in still)),
        Shot(1, 8, tuple(walk._replace(start=walk.end) for walk in still), pole=(1.1, -0.1)),
    ]


def _cuts() -> list[Shot]:
    pair = (Walk(6, 0.3, 0.35), Walk(7, 0.7, 0.65))
    swapped = (Walk(7, 0.25, 0.3, 1.1), Walk(6, 0.75, 0.7, 0.9))
    alone = (Walk(8, 0.5, 0.45, 1.2),)
    all_three = (Walk(6, 0.2, 0.2, 0.9), Walk(8, 0.5, 0.5, 0.9), Walk(7, 0.8, 0.8, 0.9))
    shots = [Shot(2, 3, pair), Shot(3, 3, alone), Shot(4, 3, swapped), Shot(5, 3, all_three)]
    return [*shots, *(shot._replace(room=shot.room) for shot in shots)]


def _returns() -> list[Shot]:
    return [
        Shot(6, 4, (Walk(9, 0.3, 0.3), Walk(10, 0.7, 1.3))),
        Shot(6, 3, (Walk(9, 0.3, 0.3), Walk(11, 1.3, 0.7))),
        Shot(6, 3, (Walk(9, 0.3, -0.3), Walk(11, 0.7, 0.7))),
        Shot(6, 3, (Walk(10, -0.3, 0.3), Walk(11, 0.7, 1.3))),
        Shot(6, 3, (Walk(10, 0.3, 0.3), Walk(9, 1.3, 0.7))),
        Shot(6, 3, (Walk(10, 0.3, -0.3), Walk(9, 0.7, 0.7))),
        Shot(6, 3, (Walk(11, -0.3, 0.3), Walk(9, 0.7, 0.7))),
    ]


CLIPS = {
    "crossings": _crossings, "occlusions": _occlusions, "cuts": _cuts, "returns": _returns,
}  # fmt: skip
"""Shots of each clip by name."""


@dataclasses.dataclass(frozen=True)
class Truth:
    """A person in a frame.

    Attributes:
      person: number.
      box: x, y, width, height in pixels.
      expression: one of `labels.SEVEN`.
      visible: share of the box that is in view and covered by nobody else, 0 to 1.
    """

    person: int
    box: tuple[int, int, int, int]
    expression: str
    visible: float


def write_clip(folder: Path, name: str, seed: int) -> tuple[Path, list[list[Truth]]]:
    """Renders a clip unless the folder has it; returns the video and the truth of each frame."""
    video, table = (folder / f"{name}_{seed}{suffix}" for suffix in (".mp4", ".json"))
    if not table.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(video), fourcc, RATE, (WIDTH, HEIGHT))
        rows = []
        for image, people in _frames(CLIPS[name](), seed):
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            rows.append([dataclasses.asdict(truth) for truth in people])
        writer.release()
        table.write_text(json.dumps(rows))
    rows = json.loads(table.read_text())
    return video, [[Truth(**{**one, "box": tuple(one["box"])}) for one in row] for row in rows]


def _frames(shots: list[Shot], seed: int) -> Iterator[tuple[np.ndarray, list[Truth]]]:
    """Yields uint8[HEIGHT, WIDTH, 3] RGB and the people in it."""
    people = sorted({walk.person for shot in shots for walk in shot.walks})
    total = round(sum(shot.seconds for shot in shots) * RATE)
    schedules = {person: _schedule(seed, person, total + len(shots)) for person in people}
    index = 0
    for shot in shots:
        count = round(shot.seconds * RATE)
        for number in range(count):
            done = (number + 1) / count
            now = {person: schedule[index] for person, schedule in schedules.items()}
            yield _frame(shot, done, index, seed, now)
            index += 1


def _schedule(seed: int, person: int, frames: int) -> list[Expression]:
    """Returns the expression of a person in each frame; never twice the same in a row."""
    rng = np.random.default_rng([seed, person, 1])
    schedule: list[Expression] = []
    while len(schedule) < frames:
        others = [name for name in labels.SEVEN if not schedule or schedule[-1].name != name]
        expression = draw_expression(str(rng.choice(others)), rng)
        schedule += [expression] * round(rng.uniform(*_SEGMENT) * RATE)
    return schedule[:frames]


def _frame(
    shot: Shot, done: float, index: int, seed: int, expressions: Mapping[int, Expression]
) -> tuple[np.ndarray, list[Truth]]:
    noise = np.random.default_rng([seed, index, 2])
    canvas = _room(shot.room, seed).astype(np.float32)
    owner = np.full((HEIGHT, WIDTH), -2)
    placed = []
    for walk in shot.walks:
        expression = expressions[walk.person]
        image, mask, box = _person(walk.person, expression, shot.room, index, seed)
        side = round(_SPRITE * walk.size)
        left = round((walk.start + (walk.end - walk.start) * done) * WIDTH - side / 2)
        _paste(canvas, owner, image, mask, (left, HEIGHT - side, side), walk.person)
        scale = side / _SPRITE
        x, y, width, height = (round(value * scale) for value in box)
        placed.append((walk.person, (x + left, y + HEIGHT - side, width, height), expression.name))
    if shot.pole:
        middle = round((shot.pole[0] + (shot.pole[1] - shot.pole[0]) * done) * WIDTH)
        covered = slice(max(0, middle - 45), max(0, middle + 45))
        canvas[:, covered], owner[:, covered] = (70, 60, 55), _POLE
    image = (canvas + noise.normal(0, 2, canvas.shape)).clip(0, 255).astype(np.uint8)
    return image, [
        Truth(person, box, name, _visible(owner, box, person)) for person, box, name in placed
    ]


def _visible(owner: np.ndarray, box: tuple[int, int, int, int], person: int) -> float:
    x, y, width, height = box
    inside = owner[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    # The corners of the box are background.
    return float((inside == person).sum() + (inside == -2).sum()) / (width * height)


def _paste(
    canvas: np.ndarray,
    owner: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    square: tuple[int, int, int],
    person: int,
) -> None:
    """Pastes a person at x, y, side, in place."""
    left, top, side = square
    size = (side, side)
    shown = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    alpha = cv2.GaussianBlur(cv2.resize(mask, size).astype(np.float32) / 255, (3, 3), 0)
    first, last = max(left, 0), min(left + side, WIDTH)
    if first >= last:
        return
    rows, columns = slice(max(top, 0), HEIGHT), slice(first, last)
    part = (slice(max(-top, 0), HEIGHT - top), slice(first - left, last - left))
    opacity = alpha[part][..., None]
    canvas[rows, columns] += (shown[part] - canvas[rows, columns]) * opacity
    owner[rows, columns][opacity[..., 0] > 0.5] = person


@functools.lru_cache(32)
def _head(person: int, seed: int) -> NeutralHead:
    head = load_head()
    drawn = draw_person(head, np.random.default_rng([seed, person, 3]), 0.2)
    return geometry.build_neutral_head(head, drawn)


def _person(
    person: int, expression: Expression, room: int, index: int, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    """Renders a person: uint8[S, S, 3], mask uint8[S, S], and the box of the face."""
    neutral, head = _head(person, seed), load_head()
    light = np.random.default_rng([seed, room, 4])
    scene = draw_scene(light, 0.0, 0.3, (0.5, 0.5))
    phase = zlib.crc32(f"{seed} {person}".encode()) % 628 / 100
    turn = np.sin(index / RATE * 2 * np.pi / 2.6 + phase)
    nod = np.sin(index / RATE * 2 * np.pi / 3.7 + phase)
    scene = dataclasses.replace(
        scene, yaw=_TURN * turn, pitch=4 * nod, roll=3 * nod, offset=np.zeros(2), seed=index,
        resolution=1.0, saturation=max(scene.saturation, 0.6), distance=12.0, fill=0.5,
    )  # fmt: skip
    drawn = render(head, neutral, expression, scene, _SPRITE, supersample=1)
    vertices = geometry.apply_expression(head, neutral, expression)
    view = geometry.project(vertices, neutral.person.scale, scene, _SPRITE)
    mask = np.zeros(_SPRITE * _SPRITE, np.uint8)
    mask[surface.visible_points(head, neutral, view, _SPRITE).pixel] = 255
    return drawn.image, mask.reshape(_SPRITE, _SPRITE), drawn.face_box


@functools.lru_cache(32)
def _room(room: int, seed: int) -> np.ndarray:
    """A blurred room, uint8[HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng([seed, room, 5])
    cells = (rng.uniform(40, 200, 3) + rng.normal(0, 25, (5, 8, 3))).clip(0, 255).astype(np.uint8)
    return cv2.resize(cells, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
