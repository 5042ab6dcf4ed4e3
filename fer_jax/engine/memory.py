"""What a checkpoint remembers besides the arrays: validations, open metrics, time.

Plain numbers, stored as JSON with every checkpoint, so that a resumed run logs and
stops exactly where an unbroken one does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fer_jax.engine.metrics import StepMetrics, scalars


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """The best validation so far, and whether to go on.

    Attributes:
      patience: validations without a better one after which to stop; 0 never stops.
      best: the highest accuracy so far, None before the first validation.
      best_step: the step it belongs to.
      waited: validations since.
    """

    patience: int
    best: float | None = None
    best_step: int = 0
    waited: int = 0

    def after(self, accuracy: float, step: int) -> EarlyStopping:
        """The memory with one more validation; an equal accuracy is not a better one."""
        if self.best is None or accuracy > self.best:
            return dataclasses.replace(self, best=accuracy, best_step=step, waited=0)
        return dataclasses.replace(self, waited=self.waited + 1)

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return bool(self.patience) and self.waited >= self.patience


class MetricWindow:
    """Sums the metrics of the steps since the last log line.

    A step's metrics are fetched when the next step has been dispatched, so that the
    device never waits for the host.
    """

    def __init__(self, classes: int, stored: dict[str, Any] | None = None) -> None:
        self._confusion = np.zeros((classes, classes), np.int64)
        self._loss_sum = 0.0
        self._pending: StepMetrics | None = None
        if stored:
            self._confusion += np.array(stored["confusion"], np.int64)
            self._loss_sum = stored["loss_sum"]

    def add(self, metrics: StepMetrics) -> None:
        """Takes a step's metrics and fetches those of the step before."""
        self._fetch()
        self._pending = metrics

    def close(self) -> dict[str, float]:
        """The means over the window, which begins anew."""
        self._fetch()
        result = scalars(self._confusion, self._loss_sum)
        self._confusion = np.zeros_like(self._confusion)
        self._loss_sum = 0.0
        return result

    def to_json(self) -> dict[str, Any]:
        """As stored with a checkpoint."""
        self._fetch()
        return {"confusion": self._confusion.tolist(), "loss_sum": self._loss_sum}

    def _fetch(self) -> None:
        if self._pending is None:
            return
        computed = self._pending.compute()
        self._pending = None
        self._confusion += computed["confusion"]
        self._loss_sum += computed["loss"]


@dataclasses.dataclass
class Memory:
    """The memory of one run.

    Attributes:
      stopping: of the validations.
      window: of the training metrics not yet logged.
      stage: the stage of training, from 0.
      seconds: of training so far, over all its sittings.
      finished: whether training is over.
    """

    stopping: EarlyStopping
    window: MetricWindow
    stage: int = 0
    seconds: float = 0.0
    finished: bool = False

    def to_json(self) -> dict[str, Any]:
        """As stored with a checkpoint."""
        return {
            "stopping": dataclasses.asdict(self.stopping),
            "window": self.window.to_json(),
            "stage": self.stage,
            "seconds": self.seconds,
            "finished": self.finished,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any], classes: int) -> Memory:
        """Reads back what `to_json` stored."""
        return cls(
            stopping=EarlyStopping(**stored["stopping"]),
            window=MetricWindow(classes, stored["window"]),
            stage=stored["stage"],
            seconds=stored["seconds"],
            finished=stored["finished"],
        )
