"""What validations decide: the best checkpoint, when to stop, when the learning rate drops.

Plain numbers on the host, stored with every checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_LOWER_IS_BETTER = ("loss",)


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """The best validation so far, and whether to go on.

    Attributes:
      patience: validations without improvement after which to stop; 0 never stops.
      monitor: the score that is compared, one of `settings.MONITORS`.
      best: the best score so far; None before the first validation.
      best_step: its step.
      waited: validations since.
    """

    patience: int
    monitor: str = "accuracy"
    best: float | None = None
    best_step: int = 0
    waited: int = 0

    def after(self, means: Mapping[str, float], step: int) -> EarlyStopping:
        """Returns the state after one more validation; an equal score is no improvement.

        Args:
          means: as `metrics.scalars` returns them.
          step: of the run.
        """
        score = means[self.monitor]
        sign = -1 if self.monitor in _LOWER_IS_BETTER else 1
        if self.best is None or score * sign > self.best * sign:
            return dataclasses.replace(self, best=score, best_step=step, waited=0)
        return dataclasses.replace(self, waited=self.waited + 1)

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return bool(self.patience) and self.waited >= self.patience


@dataclasses.dataclass(frozen=True)
class Plateau:
    """State of the plateau schedule: the learning rate drops when validation stops improving.

    `TrainState.rate_scale` holds the scale too, so that the compiled step reads it as an input.

    Attributes:
      patience: validations without improvement after which the rate drops.
      factor: multiplies the rate at each drop.
      scale: current factor of the learning rate.
      waited: validations since the last improvement or drop.
    """

    patience: int
    factor: float
    scale: float = 1.0
    waited: int = 0

    def after(self, is_best: bool) -> Plateau:
        """Returns the state after one more validation."""
        if is_best:
            return dataclasses.replace(self, waited=0)
        if self.waited + 1 < self.patience:
            return dataclasses.replace(self, waited=self.waited + 1)
        return dataclasses.replace(self, scale=self.scale * self.factor, waited=0)
