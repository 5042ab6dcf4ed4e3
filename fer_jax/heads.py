"""The further heads of a network: action units, and valence and arousal, beside the classes.

All heads share the network's last layer, whose columns are the classes, then the units, then
valence and arousal. `Heads` says which column is what; losses and other scores are elsewhere.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

UNITS, AFFECT = "units", "valence_arousal"

HEADS = (UNITS, AFFECT)
"""The names in `config.model.heads`."""

DIMENSIONS = ("valence", "arousal")
"""The outputs of the head `AFFECT`, in -1..1."""


@dataclasses.dataclass(frozen=True)
class Heads:
    """What the columns of a network's output are.

    The labels of the further heads are arrays float32[N, E]: 0 or 1 for each unit, then valence
    and arousal; NaN where unknown.

    Attributes:
      classes: number of classes.
      units: FACS names of the action units; () without that head.
      affect: whether there are valence and arousal.
    """

    classes: int = 0
    units: tuple[str, ...] = ()
    affect: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the E further outputs; () if there are only classes."""
        return (*self.units, *(DIMENSIONS if self.affect else ()))

    @property
    def columns(self) -> tuple[str, ...]:
        """As `names`, in tables of predictions: unit_AU12, valence, arousal."""
        return (*(f"unit_{name}" for name in self.units), *self.names[len(self.units) :])

    @property
    def outputs(self) -> int:
        """Width of the network's last layer: C + E."""
        return self.classes + len(self.names)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """For each further output, the one it becomes when the image is flipped: AU12L, AU12R."""
        swapped = {"L": "R", "R": "L"}
        partners = [name[:-1] + swapped.get(name[-1], name[-1]) for name in self.names]
        return tuple(
            self.names.index(partner if partner in self.names else name)
            for name, partner in zip(self.names, partners, strict=True)
        )

    def unknown(self, count: int) -> np.ndarray | None:
        """Labels float32[count, E] that are all unknown; None if there are only classes."""
        return np.full((count, len(self.names)), np.nan, np.float32) if self.names else None

    def split(self, outputs: Any) -> tuple[Any, Any]:
        """Returns [..., C] and [..., E] of an array [..., C + E]; None for the latter if E is 0."""
        if not self.names:
            return outputs, None
        return outputs[..., : self.classes], outputs[..., self.classes :]


NO_HEADS = Heads()
"""Where further heads are not needed."""


def concordance(moments: np.ndarray) -> np.ndarray:
    """Returns the concordance correlation coefficient (Lin 1989), float64[...] in -1..1.

    0 where it is undefined: without variance, or with fewer than two values.

    Args:
      moments: float64[..., 6], the sums of 1, x, y, x², y² and xy.
    """
    count = np.maximum(moments[..., 0], 1)
    mean_x, mean_y, square_x, square_y, product = (
        moments[..., index] / count for index in range(1, 6)
    )
    covariance = product - mean_x * mean_y
    # Var x + Var y + (mean x - mean y)² is this, with less cancellation.
    spread = square_x + square_y - 2 * mean_x * mean_y
    is_defined = (moments[..., 0] > 1) & (spread > 1e-12)
    result: np.ndarray = np.where(is_defined, 2 * covariance / np.where(is_defined, spread, 1), 0.0)
    return result
