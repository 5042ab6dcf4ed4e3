"""What a checkpoint stores besides the arrays: validations, unlogged metrics, time.

Plain numbers, stored as JSON with every checkpoint, so that a resumed run logs and stops exactly
where an uninterrupted one does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from fer_jax.heads import NO_HEADS, Heads
from fer_jax.training.early_stopping import EarlyStopping, Plateau
from fer_jax.training.metrics import TrainMetrics, head_scalars, scalars


class NotFiniteError(Exception):
    """A step produced NaN or Inf.

    Attributes:
      step: of the run, from 0.
      found: what is not finite, such as "the loss is nan".
    """

    def __init__(self, step: int, found: str) -> None:
        super().__init__(f"{found} at step {step + 1}")
        self.step, self.found = step, found


class MetricWindow:
    """Accumulates the metrics of the steps since the last log line.

    A chunk's metrics are fetched after the next chunk is dispatched, so that the device never
    waits for the host.
    """

    def __init__(
        self, classes: int, stored: dict[str, Any] | None = None, heads: Heads = NO_HEADS
    ) -> None:
        self._heads, self._head_sums = heads, np.zeros(())  # takes the shape of what is added
        self._confusion = np.zeros((classes, classes), np.int64)
        self._loss_sum = 0.0
        self._norms: dict[str, float] = {}
        self._pending: tuple[int, TrainMetrics] | None = None
        if stored:
            self._confusion += np.array(stored["confusion"], np.int64)
            self._loss_sum = stored["loss_sum"]
            self._head_sums = np.array(stored.get("head_sums", 0.0))

    def add(self, first_step: int, metrics: TrainMetrics) -> None:
        """Takes the metrics of a chunk, and fetches those of the previous one.

        Args:
          first_step: of the chunk, counted in the run from 0.
          metrics: with a leading axis of the chunk's steps.

        Raises:
          NotFiniteError: a step of the previous chunk produced NaN or Inf.
        """
        self.fetch()
        self._pending = (first_step, metrics)

    def fetch(self) -> None:
        """Waits for the metrics of the last chunk.

        Raises:
          NotFiniteError: as `add`.
        """
        if self._pending is None:
            return
        first_step, metrics = self._pending
        self._pending = None
        fetched = jax.device_get(metrics)
        _check_finite(first_step, fetched)
        self._confusion += fetched.confusion.counts.sum(axis=0, dtype=np.int64)
        for total in fetched.loss.total.tolist():  # in order: the same sum for any chunk length
            self._loss_sum += total
        if self._heads.names:
            self._head_sums = self._head_sums + fetched.heads.values.sum(axis=0, dtype=np.float64)
        self._norms = {
            "gradient_norm": float(fetched.gradient_norm.value[-1]),
            "parameter_norm": float(fetched.parameter_norm.value[-1]),
        }

    @property
    def means(self) -> dict[str, float]:
        """Means over what was fetched since the last `close`; empty if nothing was."""
        if not self._confusion.any():
            return {}
        means = scalars(self._confusion, self._loss_sum)
        return means | head_scalars(self._head_sums, self._heads)

    def close(self) -> dict[str, float]:
        """Returns the means and the norms of the last fetched step, and resets the window."""
        result = {**self.means, **self._norms}
        self._confusion = np.zeros_like(self._confusion)
        self._loss_sum = 0.0
        self._head_sums = np.zeros(())
        return result

    def to_json(self) -> dict[str, Any]:
        """Returns what a checkpoint stores, after fetching all steps."""
        self.fetch()
        more = {"head_sums": self._head_sums.tolist()} if self._heads.names else {}
        return {"confusion": self._confusion.tolist(), "loss_sum": self._loss_sum, **more}


def _check_finite(first_step: int, metrics: TrainMetrics) -> None:
    named = {
        "loss": metrics.loss.total,
        "norm of the gradient": metrics.gradient_norm.value,
        "norm of the parameters": metrics.parameter_norm.value,
    }
    for index in range(len(metrics.loss.total)):
        for name, values in named.items():
            if not np.isfinite(values[index]):
                raise NotFiniteError(first_step + index, f"the {name} is {values[index]}")


@dataclasses.dataclass
class LoopState:
    """The part of a run's state that lives on the host.

    Attributes:
      stopping: early stopping.
      window: training metrics that are not logged yet.
      plateau: of the plateau schedule; None with another schedule.
      stage: index of the current stage.
      seconds: of training so far, over all invocations.
      finished: whether training is over.
      environments: `run_dir.versions` of the invocations behind this state that differ.
    """

    stopping: EarlyStopping
    window: MetricWindow
    plateau: Plateau | None = None
    stage: int = 0
    seconds: float = 0.0
    finished: bool = False
    environments: list[dict[str, str]] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns what a checkpoint stores."""
        return {
            "stopping": dataclasses.asdict(self.stopping),
            "window": self.window.to_json(),
            "plateau": dataclasses.asdict(self.plateau) if self.plateau else None,
            "stage": self.stage,
            "seconds": self.seconds,
            "finished": self.finished,
            "environments": self.environments,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any], classes: int, heads: Heads = NO_HEADS) -> LoopState:
        """Reads what `to_json` returned."""
        return cls(
            stopping=EarlyStopping(**stored["stopping"]),
            window=MetricWindow(classes, stored["window"], heads),
            plateau=Plateau(**stored["plateau"]) if stored.get("plateau") else None,
            stage=stored["stage"],
            seconds=stored["seconds"],
            finished=stored["finished"],
            environments=stored.get("environments", []),  # older versions stored none
        )
