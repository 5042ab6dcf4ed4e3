"""Which frames of a video become pictures: a few of each class, not all that look alike.

It knows times and labels only; it reads no file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How frames are taken; part of the stamp of prepared data.

    Attributes:
      per_class: At most so many frames of a class from one video.
      gap: Seconds between two of them, at least: neighbours in a video are near-copies.
    """

    per_class: int = 6
    gap: float = 0.5


def choose(frames: Iterable[tuple[float, str]], sampling: Sampling) -> list[tuple[float, str]]:
    """Picks from the labelled frames of one video.

    Args:
      frames: Time in seconds and class of each frame, in any order.
      sampling: How many, and how far apart.

    Returns:
      The picked ones, ascending by time. Where a class has more than it may have, they
      are spread evenly over what it has.
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


def _spread(times: Sequence[float], most: int) -> list[float]:
    """`most` of `times`, each from the middle of its share."""
    if len(times) <= most:
        return list(times)
    return [times[int((one + 0.5) * len(times) / most)] for one in range(most)]
