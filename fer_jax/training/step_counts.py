"""When things happen in a run, in steps: epochs, validations, log lines, stages."""

from __future__ import annotations

import dataclasses
import math

from fer_jax.durations import Clock
from fer_jax.errors import UserError
from fer_jax.settings import VALIDATIONS, Settings


@dataclasses.dataclass(frozen=True)
class StepCounts:
    """The durations of `config.train` in steps.

    Attributes:
      epoch: of one epoch; the remainder of the records runs on into the next epoch.
      total: of the whole run if it does not stop early.
      head: of the first stage, which trains the head alone; 0 if there is none.
      eval: between two validations.
      log: between two log lines.
      patience: validations without improvement after which to stop; 0 never stops.
    """

    epoch: int
    total: int
    head: int
    eval: int
    log: int
    patience: int


def count_steps(settings: Settings, epoch_steps: int) -> StepCounts:
    """Converts the durations of `settings.train` to steps.

    Args:
      settings: of the run.
      epoch_steps: number of steps of one epoch.

    Raises:
      UserError: the head's stage is not shorter than the run.
    """
    train = settings.train
    clock = Clock(train.batch_size, epoch_steps)
    total = clock.steps(settings.duration("train.epochs"))
    clock = dataclasses.replace(clock, total_steps=total)
    head, period, log = (
        clock.steps(settings.duration(f"train.{name}"))
        for name in ("head_epochs", "eval_epochs", "log_steps")
    )
    if head >= total:
        raise UserError(
            f"expected train.head_epochs below train.epochs={train.epochs}, "
            f"found {train.head_epochs}"
        )
    patience = settings.duration("train.patience")
    validations = patience.amount
    if patience.unit != VALIDATIONS:
        validations = clock.steps(patience) / period
    return StepCounts(epoch_steps, total, head, period, log, math.ceil(validations))
