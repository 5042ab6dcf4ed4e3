"""What validations decide: which is the best, when to stop, when the learning rate falls.

Plain numbers on the host, stored with every checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

MONITORS: Mapping[str, int] = {
    "accuracy": 1,
    "balanced_accuracy": 1,
    "macro_f1": 1,
    "loss": -1,
}
"""What `config.train.monitor` may be: a key of `metrics.scalars`, and the direction of better."""


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """The best validation so far, and whether to go on.

    Attributes:
      patience: validations without a better one after which to stop; 0 never stops.
      monitor: the figure that is compared, a name of `MONITORS`.
      best: the best one so far, None before the first validation.
      best_step: the step it belongs to.
      waited: validations since.
    """

    patience: int
    monitor: str = "accuracy"
    best: float | None = None
    best_step: int = 0
    waited: int = 0

    def after(self, means: Mapping[str, float], step: int) -> EarlyStopping:
        """The memory with one more validation; an equal figure is not a better one.

        Args:
          means: as `metrics.scalars` gives them.
          step: of the run.
        """
        found, direction = means[self.monitor], MONITORS[self.monitor]
        if self.best is None or found * direction > self.best * direction:
            return dataclasses.replace(self, best=found, best_step=step, waited=0)
        return dataclasses.replace(self, waited=self.waited + 1)

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return bool(self.patience) and self.waited >= self.patience


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The memory of the plateau schedule: the rate falls when validation gets no better.

    The scale is part of the training state too, so that the compiled step reads it as an
    input.

    Attributes:
      patience: validations without a better one after which the rate falls.
      factor: what it is multiplied by.
      scale: of the rate, now.
      waited: validations since the last better one or the last fall.
    """

    patience: int
    factor: float
    scale: float = 1.0
    waited: int = 0

    def after(self, is_best: bool) -> Plateau:
        """The memory with one more validation."""
        if is_best:
            return dataclasses.replace(self, waited=0)
        if self.waited + 1 < self.patience:
            return dataclasses.replace(self, waited=self.waited + 1)
        return dataclasses.replace(self, scale=self.scale * self.factor, waited=0)
