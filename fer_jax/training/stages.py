"""Training in stages: the head first, then more of the network at a lower rate.

Each stage has its own optimizer with a fresh state. Most runs have one stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import flax.linen as nn
import jax
import numpy as np
import optax

from fer_jax.settings import Settings
from fer_jax.training.freezing import BACKBONE, NONE, Frozen, find_blocks, freeze
from fer_jax.training.optim import make_optimizer, make_schedule
from fer_jax.training.step_counts import count_steps


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of training with one set of trainable parameters and one schedule.

    Attributes:
      start: first step, counted in the run from 0.
      end: step after the last one.
      frozen: the blocks that are not trained.
      optimizer: of the trainable parameters.
      schedule: learning rate by the step within the stage.
    """

    start: int
    end: int
    frozen: Frozen
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule

    def rate(self, step: int) -> float:
        """Returns the learning rate of the run's `step`-th step, counted from 1."""
        within = jax.device_put(np.int32(step - self.start - 1))
        # Explicit transfers: tests run the loop under a transfer guard.
        return float(jax.device_get(jax.jit(self.schedule)(within)))


def make_stages(
    settings: Settings, model: nn.Module, epoch_steps: int | None = None
) -> tuple[Stage, ...]:
    """Returns the stages of training: one, or the head's and then the rest's.

    Args:
      settings: of the run.
      model: its network.
      epoch_steps: number of steps of one epoch; None if only the form of the optimizer state
        is needed.

    Raises:
      UserError: the network has no such block, or nothing is left to train.
    """
    plan = list(_plan(settings, epoch_steps))
    freezes = any(block != NONE for *_, block, _ in plan)
    # Finding blocks traces the network, which takes seconds for deep ones.
    blocks = find_blocks(model, settings.data.size) if freezes else ()
    stages = []
    for start, end, block, rate in plan:
        schedule = make_schedule(settings, rate, end - start, epoch_steps or 1)
        frozen = freeze(block, blocks)
        optimizer = frozen.optimizer(make_optimizer(settings.optim, schedule))
        stages.append(Stage(start, end, frozen, optimizer, schedule))
    return tuple(stages)


def _plan(settings: Settings, epoch_steps: int | None) -> Iterator[tuple[int, int, str, float]]:
    """Yields start, end, the last frozen block and the peak rate of each stage."""
    if epoch_steps is None:
        head, total = int(settings.duration("train.head_epochs").amount > 0), 2
    else:
        counts = count_steps(settings, epoch_steps)
        head, total = counts.head, counts.total
    block, rate = settings.model.freeze, settings.optim.learning_rate
    if not head:
        yield 0, total, block, rate
        return
    yield 0, head, BACKBONE, rate
    yield head, total, block, settings.optim.finetune_rate
