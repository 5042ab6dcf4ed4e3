"""A stand-in for AM-FED+: its exact tree, with filmed rendered people, and its traps.

The videos are Flash with a variable frame rate, short, and every one carries the mark of a
stand-in. What people do in them is in timeline.py; the command is tfds_builders/stand_ins/write.py.
"""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import functools
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders import pictures
from tfds_builders.amfed_plus import au_labels, flv, landmarks, names, timeline, video
from tfds_builders.stand_ins import faces as stand_in_faces
from tfds_builders.synthface import geometry, render
from tfds_builders.synthface.expression import expression_of
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.scene import draw_scene

WIDTH, HEIGHT = 320, 240  # as the webcams sent them
SEED = 2018  # no other set here has these people

TRAPS = ("no labels", "no landmarks", "aliases", "numbers", "tracker", "mixed")
"""What is special about the first videos; the first two give no frame."""

_MINIMUM = 10  # videos: the traps, and enough for three splits
_VIDEOS_EACH = 4  # of one person in a whole stand-in
_RENDERED = 144  # pixels
_FACE = 0.42  # its height as a share of the frame's
_IN_PROCESS = 6  # people: rendering them takes as long as starting processes
_FLV1 = 2  # the container's own code of Sorenson H.263; "FLV1" makes OpenCV complain
_FRAME_RATE = 14.0  # what the encoder is told; the timestamps are written anew

_ALIASES: dict[str, Mapping[str, str]] = {
    "aliases": {"AU17": "Au17", "AU26": "Au26", "AU57": "Forward", "AU58": "Backward"},
    "numbers": {"AU57": "57", "AU58": "58"},
}

# The landmarks that the renderer does not know, as shares of the face's box.
_OUTLINE = {
    0: (0.0, 0.35), 1: (0.1, 0.75), 2: (0.5, 1.0), 3: (0.9, 0.75), 4: (1.0, 0.35),
    5: (0.08, 0.08), 6: (0.22, 0.0), 7: (0.38, 0.06), 8: (0.62, 0.06), 9: (0.78, 0.0),
    10: (0.92, 0.08), 11: (0.5, 0.22),
}  # fmt: skip
# The others, as shares of the box from one of the five: (which of the five, right, down).
_AROUND = {
    12: (2, 0.0, 0.0), 13: (2, -0.09, 0.04), 14: (2, 0.0, 0.06), 15: (2, 0.09, 0.04),
    16: (0, -0.09, 0.0), 17: (0, 0.09, 0.0), 18: (1, -0.09, 0.0), 19: (1, 0.09, 0.0),
    20: (3, 0.0, 0.0), 21: (3, 0.1, -0.03), 22: (3, 0.17, -0.02), 23: (4, -0.1, -0.03),
    24: (4, 0.0, 0.0), 25: (4, -0.1, 0.04), 26: (3, 0.17, 0.06), 27: (3, 0.1, 0.04),
    28: (3, 0.17, 0.0), 29: (3, 0.17, 0.02),
    30: (0, 0.0, -0.03), 31: (0, 0.0, 0.03), 32: (1, 0.0, -0.03), 33: (1, 0.0, 0.03),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Video:
    """One video to film: its id, the person in it, and what is special about it."""

    id: str
    person: int
    trap: str = ""
    is_labeled: bool = True


def videos(scale: float) -> list[Video]:
    """The videos of a stand-in of `scale` (0 to 1), labeled ones first; ten of those at least."""
    labeled = max(_MINIMUM, round(names.LABELED_VIDEOS * scale))
    others = max(1, round((names.ALL_VIDEOS - names.LABELED_VIDEOS) * scale))
    people = max(3, labeled // _VIDEOS_EACH)
    return [
        Video(
            id=str(uuid.UUID(bytes=hashlib.sha256(f"{SEED}:{one}".encode()).digest()[:16])),
            person=one % people,
            trap=TRAPS[one] if one < len(TRAPS) else "",
            is_labeled=one < labeled,
        )
        for one in range(labeled + others)
    ]


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes the tree below `out`; videos that an earlier run finished are kept.

    Yields:
      The number of videos of each person, as they are finished.
    """
    root = out / "AMFEDPLUS" / names.ROOT
    for part in (names.VIDEOS, names.LABELS, names.LANDMARKS, names.BASELINE, names.UNLABELED):
        (root / part).mkdir(parents=True, exist_ok=True)
    of_person: dict[int, list[Video]] = {}
    for one in videos(scale):
        of_person.setdefault(one.person, []).append(one)
    if len(of_person) <= _IN_PROCESS:
        yield from (_write_person(root, some) for some in of_person.values())
        return
    with stand_in_faces.process_pool() as pool:
        done = [pool.submit(_write_person, root, some) for some in of_person.values()]
        for future in concurrent.futures.as_completed(done):
            yield future.result()


def count_images(scale: float) -> int:
    """How many videos `write` makes."""
    return len(videos(scale))


def film(times: Sequence[int], frames: Iterator[np.ndarray]) -> bytes:
    """Encodes uint8[240, 320, 3] RGB frames as a marked Flash video with those timestamps (ms)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.flv"
        video.silence()
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, _FLV1, _FRAME_RATE, (WIDTH, HEIGHT))
        if not writer.isOpened():
            raise RuntimeError("OpenCV cannot write FLV: it was built without FFmpeg")
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        data = path.read_bytes()
    return flv.with_comment(flv.retime(data, times), pictures.STAND_IN_COMMENT)


def points_of(face: stand_in_faces.PooledFace) -> np.ndarray:
    """float32[34, 2]: the tracker's points, inside the face's box and touching it."""
    x, y, width, height = face.face_box
    box = np.array([width, height])
    points = np.zeros((landmarks.POINTS, 2), np.float32)
    for number, share in _OUTLINE.items():
        points[number] = (x, y) + box * share
    for number, (near, right, down) in _AROUND.items():
        points[number] = face.landmarks[near] + box * (right, down)
    return np.clip(points, (x, y), (x + width, y + height))


def _write_person(root: Path, some: Sequence[Video]) -> int:
    for one in some:
        folder = root / (names.VIDEOS if one.is_labeled else names.UNLABELED)
        if not (folder / f"{one.id}.flv").exists():  # written last
            _write_video(root, one, folder / f"{one.id}.flv")
    return len(some)


def _write_video(root: Path, one: Video, target: Path) -> None:
    rng = np.random.default_rng(list(one.id.encode()))
    extra = {"tracker": [timeline.FAIL], "mixed": [timeline.MIXED, timeline.OTHER]}
    shown = timeline.showings(rng, extra.get(one.trap, ())) if one.is_labeled else []
    times = timeline.frame_times(rng, shown[-1].end if shown else 0.5)
    keys = {
        name: stand_in_faces.place(
            stand_in_faces.vary(face, one.id, mirror=False),
            (WIDTH, HEIGHT), (WIDTH / 2, HEIGHT / 2), HEIGHT * _FACE,
        )
        for name, face in _faces_of(one.person).items()
    }  # fmt: skip
    if one.is_labeled:
        _write_labels(root / names.LABELS / f"{one.id}-label.csv", one, shown, rng)
        track = root / names.LANDMARKS / f"{one.id}.csv"
        _write_landmarks(track, one, times, points_of(keys[labels.NEUTRAL]), shown)
        _write_baseline(root / names.BASELINE / f"{one.id}_METRICS.csv", times, shown)
    data = film(times, (_frame(keys, shown, time / 1000.0) for time in times))
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(data)
    os.replace(partial, target)


def _frame(
    keys: Mapping[str, stand_in_faces.PooledFace], shown: Sequence[timeline.Showing], time: float
) -> np.ndarray:
    """The face at rest, or on the way to what it shows."""
    rest = keys[labels.NEUTRAL].image
    for one in shown:
        strength = one.strength(time)
        if strength and one.name in keys:
            return cv2.addWeighted(keys[one.name].image, strength, rest, 1.0 - strength, 0.0)
    return rest


@functools.lru_cache(maxsize=8)
def _faces_of(person: int) -> dict[str, stand_in_faces.PooledFace]:
    """A person at rest and at the height of each emotion, all in one pose and light."""
    head, stream = load_head(), [SEED, person]
    neutral = geometry.build_neutral_head(head, draw_person(head, np.random.default_rng([*stream, 0]), 0.2))
    scene = draw_scene(np.random.default_rng([*stream, 1]), 0.0, 0.6, (0.6, 0.68))
    drawn = {}
    for name, units in timeline.RENDERED.items():
        expression = expression_of(name, units, np.random.default_rng([*stream, 2]))
        drawn[name] = render.render(head, neutral, expression, scene, _RENDERED, 1)
    box = drawn[labels.NEUTRAL].face_box  # one for all: an open mouth must not move the camera
    return {
        name: stand_in_faces.PooledFace(one.image, name, person, box, one.landmarks)
        for name, one in drawn.items()
    }


def _write_labels(
    path: Path, one: Video, shown: Sequence[timeline.Showing], rng: np.random.Generator
) -> None:
    columns = timeline.columns_of(shown, rng)
    aliases = _ALIASES.get(one.trap, {})
    columns += [column for column in aliases if column not in columns]
    rows = [] if one.trap == "no labels" else timeline.label_rows(shown, rng)
    table = [[f"{time:.3f}", *(f"{values.get(column, 0.0):g}" for column in columns)]
             for time, values in rows]  # fmt: skip
    header = [au_labels.TIME, *(aliases.get(column, column) for column in columns)]
    _write_table(path, [header, *table])


def _write_landmarks(
    path: Path,
    one: Video,
    times: Sequence[int],
    points: np.ndarray,
    shown: Sequence[timeline.Showing],
) -> None:
    """The same points all along: the head is still. Nothing where the tracker failed."""
    if one.trap == "no landmarks":
        path.write_bytes(b"")
        return
    known = [f"{value:.2f}" for value in points.ravel()]
    lost = [showing for showing in shown if showing.name == timeline.FAIL]
    table = [
        [f"{time}", *(["nan"] * len(known) if any(one.strength(time / 1000.0) for one in lost)
                      else known)]
        for time in times
    ]  # fmt: skip
    _write_table(path, [landmarks.HEADER, *table])


def _write_baseline(path: Path, times: Sequence[int], shown: Sequence[timeline.Showing]) -> None:
    """A classifier's smile, which no builder reads; the real header is not known."""
    smiles = [one for one in shown if one.name == labels.HAPPINESS]
    table = [[f"{time}", f"{max(one.strength(time / 1000.0) for one in smiles):.3f}"]
             for time in times]  # fmt: skip
    _write_table(path, [[landmarks.TIME, "Smile"], *table])


def _write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
