"""Stand-in for AM-FED+: its folders and irregularities, with short videos of rendered people.

The videos are Flash with a variable frame rate. `tfds_builders/amfed_plus/timeline.py` has
the expressions that they show.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders.amfed_plus import au_labels, flv, landmarks, names, timeline, video
from tfds_builders.stand_in_mark import STAND_IN_COMMENT
from tfds_builders.stand_ins import faces
from tfds_builders.synthface import geometry, render
from tfds_builders.synthface.expression import expression_of
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.scene import draw_scene

WIDTH, HEIGHT = 320, 240
SEED = 2018

TRAPS = ("no labels", "no landmarks", "aliases", "numbers", "tracker", "mixed")
"""Irregularities of the first videos, one each; the first two videos give no frame."""

_MIN_VIDEOS = 10  # one per irregularity, and enough for three splits
_VIDEOS_PER_PERSON = 4
_RENDERED = 144  # pixels
_FACE = 0.42  # height of the face box as a fraction of the frame
_IN_PROCESS = 6  # the most people that are faster without worker processes
_FLV1 = 2  # Flash's codec id of Sorenson H.263; "FLV1" makes OpenCV print a warning
_FRAME_RATE = 14.0  # for the encoder; the timestamps are overwritten

_ALIASES: dict[str, Mapping[str, str]] = {
    "aliases": {"AU17": "Au17", "AU26": "Au26", "AU57": "Forward", "AU58": "Backward"},
    "numbers": {"AU57": "57", "AU58": "58"},
}

# Landmarks that the renderer does not provide, as fractions of the face box.
_OUTLINE = {
    0: (0.0, 0.35), 1: (0.1, 0.75), 2: (0.5, 1.0), 3: (0.9, 0.75), 4: (1.0, 0.35),
    5: (0.08, 0.08), 6: (0.22, 0.0), 7: (0.38, 0.06), 8: (0.62, 0.06), 9: (0.78, 0.0),
    10: (0.92, 0.08), 11: (0.5, 0.22),
}  # fmt: skip
# The others, relative to one of the five: (its index, right, down), as fractions of the box.
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
    """A video to write.

    Attributes:
      id: file stem.
      person: index of the person.
      trap: one of TRAPS, or "".
      is_labeled: whether it has labels and landmarks.
    """

    id: str
    person: int
    trap: str = ""
    is_labeled: bool = True


def videos(scale: float) -> list[Video]:
    """Returns the videos at `scale` (0 to 1), labeled ones first; at least ten of these."""
    labeled = max(_MIN_VIDEOS, round(names.LABELED_VIDEOS * scale))
    unlabeled = max(1, round((names.ALL_VIDEOS - names.LABELED_VIDEOS) * scale))
    people = max(3, labeled // _VIDEOS_PER_PERSON)
    return [
        Video(
            id=str(uuid.UUID(bytes=hashlib.sha256(f"{SEED}:{number}".encode()).digest()[:16])),
            person=number % people,
            trap=TRAPS[number] if number < len(TRAPS) else "",
            is_labeled=number < labeled,
        )
        for number in range(labeled + unlabeled)
    ]


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes AMFEDPLUS/ below `out`; skips existing videos. Yields video counts."""
    root = out / "AMFEDPLUS" / names.ROOT
    for part in (names.VIDEOS, names.LABELS, names.LANDMARKS, names.BASELINE, names.UNLABELED):
        (root / part).mkdir(parents=True, exist_ok=True)
    by_person: dict[int, list[Video]] = {}
    for clip in videos(scale):
        by_person.setdefault(clip.person, []).append(clip)
    jobs = [(root, clips) for clips in by_person.values()]
    yield from faces.run_jobs(_write_person, jobs, in_process=_IN_PROCESS)


def count_images(scale: float) -> int:
    """Number of videos that `write` makes."""
    return len(videos(scale))


def encode_video(times: Sequence[int], frames: Iterator[np.ndarray]) -> bytes:
    """Encodes uint8[240, 320, 3] RGB frames as a marked Flash video with timestamps in ms."""
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
    return flv.with_comment(flv.retime(data, times), STAND_IN_COMMENT)


def points_of(face: faces.PooledFace) -> np.ndarray:
    """Returns the tracker's landmarks float32[34, 2]; their bounding box is the face box."""
    x, y, width, height = face.face_box
    box = np.array([width, height])
    points = np.zeros((landmarks.POINTS, 2), np.float32)
    for number, share in _OUTLINE.items():
        points[number] = (x, y) + box * share
    for number, (near, right, down) in _AROUND.items():
        points[number] = face.landmarks[near] + box * (right, down)
    return np.clip(points, (x, y), (x + width, y + height))


def _write_person(root: Path, clips: Sequence[Video]) -> int:
    for clip in clips:
        folder = root / (names.VIDEOS if clip.is_labeled else names.UNLABELED)
        if not (folder / f"{clip.id}.flv").exists():  # written last
            _write_video(root, clip, folder / f"{clip.id}.flv")
    return len(clips)


def _write_video(root: Path, clip: Video, target: Path) -> None:
    rng = np.random.default_rng(list(clip.id.encode()))
    extra = {"tracker": [timeline.FAIL], "mixed": [timeline.MIXED, timeline.OTHER]}
    shown = timeline.showings(rng, extra.get(clip.trap, ())) if clip.is_labeled else []
    times = timeline.frame_times(rng, shown[-1].end if shown else 0.5)
    keys = {
        name: faces.place(
            faces.vary(face, clip.id, mirror=False),
            (WIDTH, HEIGHT), (WIDTH / 2, HEIGHT / 2), HEIGHT * _FACE,
        )
        for name, face in _faces_of(clip.person).items()
    }  # fmt: skip
    if clip.is_labeled:
        _write_labels(root / names.LABELS / f"{clip.id}-label.csv", clip, shown, rng)
        track = root / names.LANDMARKS / f"{clip.id}.csv"
        _write_landmarks(track, clip, times, points_of(keys[labels.NEUTRAL]), shown)
        _write_baseline(root / names.BASELINE / f"{clip.id}_METRICS.csv", times, shown)
    frames = (_frame(keys, shown, time / 1000.0) for time in times)
    faces.write_file(target, encode_video(times, frames))


def _frame(
    keys: Mapping[str, faces.PooledFace], shown: Sequence[timeline.Showing], time: float
) -> np.ndarray:
    """Blends the neutral image with that of the current expression, by its strength."""
    rest = keys[labels.NEUTRAL].image
    for showing in shown:
        strength = showing.strength(time)
        if strength and showing.name in keys:
            return cv2.addWeighted(keys[showing.name].image, strength, rest, 1.0 - strength, 0.0)
    return rest


@functools.lru_cache(maxsize=8)
def _faces_of(person: int) -> dict[str, faces.PooledFace]:
    """Images of a person: neutral and the peak of each expression, in one pose and light."""
    head, stream = load_head(), [SEED, person]
    person_parameters = draw_person(head, np.random.default_rng([*stream, 0]), 0.2)
    neutral = geometry.build_neutral_head(head, person_parameters)
    scene = draw_scene(np.random.default_rng([*stream, 1]), 0.0, 0.6, (0.6, 0.68))
    renderings = {}
    for name, units in timeline.RENDERED.items():
        expression = expression_of(name, units, np.random.default_rng([*stream, 2]))
        renderings[name] = render.render(head, neutral, expression, scene, _RENDERED, 1)
    # The same box for all, so that an open mouth does not move the frame.
    box = renderings[labels.NEUTRAL].face_box
    return {
        name: faces.PooledFace(rendering.image, name, person, box, rendering.landmarks)
        for name, rendering in renderings.items()
    }


def _write_labels(
    path: Path, clip: Video, shown: Sequence[timeline.Showing], rng: np.random.Generator
) -> None:
    columns = timeline.columns_of(shown, rng)
    aliases = _ALIASES.get(clip.trap, {})
    columns += [column for column in aliases if column not in columns]
    rows = [] if clip.trap == "no labels" else timeline.label_rows(shown, rng)
    table = [[f"{time:.3f}", *(f"{values.get(column, 0.0):g}" for column in columns)]
             for time, values in rows]  # fmt: skip
    header = [au_labels.TIME, *(aliases.get(column, column) for column in columns)]
    _write_table(path, [header, *table])


def _write_landmarks(
    path: Path,
    clip: Video,
    times: Sequence[int],
    points: np.ndarray,
    shown: Sequence[timeline.Showing],
) -> None:
    """Writes the same points for every frame; NaN where the tracker failed."""
    if clip.trap == "no landmarks":
        path.write_bytes(b"")
        return
    known = [f"{value:.2f}" for value in points.ravel()]
    lost = [showing for showing in shown if showing.name == timeline.FAIL]
    table = [
        [f"{time}", *(["nan"] * len(known) if any(loss.strength(time / 1000.0) for loss in lost)
                      else known)]
        for time in times
    ]  # fmt: skip
    _write_table(path, [landmarks.HEADER, *table])


def _write_baseline(path: Path, times: Sequence[int], shown: Sequence[timeline.Showing]) -> None:
    """Writes smile scores. The builder does not read them; the real header is unknown."""
    smiles = [showing for showing in shown if showing.name == labels.HAPPINESS]
    table = [[f"{time}", f"{max(smile.strength(time / 1000.0) for smile in smiles):.3f}"]
             for time in times]  # fmt: skip
    _write_table(path, [[landmarks.TIME, "Smile"], *table])


def _write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
