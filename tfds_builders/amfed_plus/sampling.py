"""Samples a few frames of each class from a video, because neighboring frames look alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The settings; part of the stamp of prepared data.

    Attributes:
      per_class: maximum number of frames of a class from one video.
      gap: minimum time between frames of a class, in seconds.
    """

    per_class: int = 6
    gap: float = 0.5


def choose(frames: Iterable[tuple[float, str]], sampling: Sampling) -> list[tuple[float, str]]:
    """Samples the labeled frames of one video.

    Args:
      frames: time in seconds and class of each frame, in any order.
      sampling: the settings.

    Returns:
      The sampled frames, sorted by time. Frames of a class that has more than
      `sampling.per_class` are spread evenly.
    """
    of_class: dict[str, list[float]] = {}
    for time, label in sorted(frames):
        times = of_class.setdefault(label, [])
        if not times or time - times[-1] >= sampling.gap:
            times.append(time)
    return sorted(
        (time, label)
        for label, times in of_class.items()
        for time in _spread(times, sampling.per_class)
    )


def _spread(times: Sequence[float], limit: int) -> list[float]:
    """At most `limit` of `times`: the middle one of each of `limit` equal parts."""
    if len(times) <= limit:
        return list(times)
    return [times[int((part + 0.5) * len(times) / limit)] for part in range(limit)]
