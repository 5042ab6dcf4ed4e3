"""Tracks and smoothing of `fer-jax predict` on rendered clips of known people and expressions.

    python -m benchmarks.tracking OUT [--run runs/demo] [--seed 2] [--clips cuts] [--smooth 0.2]

Renders four clips of 19 to 24 seconds into OUT, or reads those that are there: people who cross,
who are behind a pole, in shots with cuts, and who leave and return. A switch is a person whose
track changes; a face counts if its box meets the true one and most of it is visible. A flip is a
label that differs from the one before of the same person. Use a run that reads rendered faces.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import clips
from benchmarks.clips import Truth
from fer_jax import run_dir
from fer_jax.inference import sources
from fer_jax.inference.follow import Follower
from fer_jax.inference.model import Model
from fer_jax.inference.results import Face
from fer_jax.inference.smoothing import Smoothing
from fer_jax.inference.stream import PredictOptions, predict_frames

_MIN_OVERLAP, _MIN_VISIBLE = 0.4, 0.6  # intersection over union; share of the face


@dataclasses.dataclass
class Score:
    """What was counted in one clip or several.

    Attributes:
      frames: of the video.
      faces, untracked: that meet a visible person, and those of them without a track.
      people, tracks: how many there are.
      switches: of a person's track.
      mixed: tracks of several people.
      flips: of the true expression, of the label, and of the smoothed label.
      right: correct labels, and correct smoothed labels.
      seconds: wall time, and CPU time of tracks and smoothing.
    """

    frames: int = 0
    faces: int = 0
    untracked: int = 0
    people: int = 0
    tracks: int = 0
    switches: int = 0
    mixed: int = 0
    flips: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3, int))
    right: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2, int))
    seconds: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))

    def __add__(self, other: Score) -> Score:
        fields = (field.name for field in dataclasses.fields(self))
        return Score(*(getattr(self, name) + getattr(other, name) for name in fields))

    def row(self, name: str) -> str:
        """Returns a row of the table."""
        whole, following = self.seconds / self.frames
        cells = (
            name, f"{self.frames:,}", f"{self.faces:,}",
            self.people, self.tracks, self.switches, self.mixed,
            f"{self.untracked / self.faces:.1%}", *self.flips,
            *(f"{right / self.faces:.3f}" for right in self.right),
            f"{1 / whole:.1f}", f"{1000 * following:.1f}",
        )  # fmt: skip
        return f"| {' | '.join(map(str, cells))} |"


def score(model: Model, video: Path, truth: Sequence[Sequence[Truth]], smooth: float) -> Score:
    """Predicts a clip and compares it with the truth of each frame."""
    result, follower = Score(), Follower(Smoothing(smooth))
    tracks: dict[int, int] = {}
    owners: dict[int, set[int]] = collections.defaultdict(set)
    labels: dict[int, tuple[str, ...]] = {}
    start = time.perf_counter()
    options = PredictOptions("all", whole_image=False, explain=False, min_share=0.1)
    frames = predict_frames(model, sources.find_sources([str(video)]).sources, options)
    for item, people in zip(frames, truth, strict=True):
        assert not isinstance(item, sources.Unreadable), item.reason
        before = time.thread_time()
        prediction = follower.follow(*item)
        result.seconds[1] += time.thread_time() - before
        result.frames += 1
        for face, known in _matches(prediction.faces, people):
            now = (known.expression, face.label, face.shown()[0])
            result.faces += 1
            result.right += [now[0] == label for label in now[1:]]
            earlier = labels.get(known.person, now)
            result.flips += [old != new for old, new in zip(earlier, now, strict=True)]
            labels[known.person] = now
            if face.track is None:
                result.untracked += 1
                continue
            result.switches += tracks.get(known.person, face.track) != face.track
            tracks[known.person] = face.track
            owners[face.track].add(known.person)
    result.seconds[0] = time.perf_counter() - start
    result.people, result.tracks = len(labels), len(owners)
    result.mixed = sum(len(people) > 1 for people in owners.values())
    return result


def _matches(faces: Sequence[Face], people: Sequence[Truth]) -> Iterator[tuple[Face, Truth]]:
    """Yields the faces that are one of the people, with the person."""
    for face in faces:
        best = max(people, key=lambda known: _overlap(face.box, known.box), default=None)
        if best and best.visible > _MIN_VISIBLE and _overlap(face.box, best.box) > _MIN_OVERLAP:
            yield face, best


def _overlap(first: Sequence[int], second: Sequence[int]) -> float:
    """Returns the intersection over union of two boxes: x, y, width, height."""
    sides = [min(first[axis] + first[axis + 2], second[axis] + second[axis + 2])
             - max(first[axis], second[axis]) for axis in (0, 1)]  # fmt: skip
    shared = max(sides[0], 0) * max(sides[1], 0)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def main() -> None:
    """Prints a table with a row per clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the clips")
    parser.add_argument("--run", default="runs/demo", help="run directory")
    parser.add_argument("--seed", type=int, default=2, help="another has other people and rooms")
    parser.add_argument("--clips", default=",".join(clips.CLIPS), help="names of clips")
    parser.add_argument("--smooth", type=float, default=0.2, help="time constant, seconds")
    options = parser.parse_args()
    model = Model(run_dir.open_run(run_dir.find_run(options.run)))
    print(
        "| clip | frames | faces | people | tracks | switches | mixed tracks | faces without track "
        "| true flips | flips | flips, smoothed | accuracy | accuracy, smoothed | frames/s "
        "| CPU ms per frame for tracks |"
    )
    print("|---" * 15 + "|")
    total = Score()
    for name in options.clips.split(","):
        video, truth = clips.write_clip(options.out, name, options.seed)
        result = score(model, video, truth, options.smooth)
        total += result
        print(result.row(name), flush=True)
    print(total.row("all"))


if __name__ == "__main__":
    main()
