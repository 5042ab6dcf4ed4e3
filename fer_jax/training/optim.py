"""Learning-rate schedules and optimizers from Optax, by name."""

from __future__ import annotations

from typing import Any

import jax
import optax

from fer_jax.durations import PER_CENT, Clock, Duration
from fer_jax.registry import REGISTRIES
from fer_jax.settings import SHARE, WITHOUT_WEIGHT_DECAY, OptimSettings, Settings

COSINE_FINAL = 0.01  # of the peak rate, at the end of the cosine


def make_schedule(settings: Settings, peak: float, steps: int, epoch_steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step within a stage.

    The plateau schedule is constant here: validation scales it (`early_stopping.Plateau`).

    Args:
      settings: of the run.
      peak: learning rate after warm-up.
      steps: of the stage.
      epoch_steps: of one epoch.
    """
    optim = settings.optim
    clock = Clock(settings.train.batch_size, epoch_steps, steps)
    warmup = min(clock.steps(_as_per_cent(settings.duration("optim.warmup"))), steps)
    rest = max(1, steps - warmup)
    if optim.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=COSINE_FINAL)
    elif optim.schedule == "step":
        every = max(1, clock.steps(settings.duration("optim.decay_every")))
        after = optax.exponential_decay(peak, every, optim.decay_factor, staircase=True)
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    # The rate is above zero from the first step on: a step at rate 0 changes nothing.
    rise = optax.linear_schedule(peak / warmup, peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


def _as_per_cent(duration: Duration) -> Duration:
    return Duration(100 * duration.amount, PER_CENT) if duration.unit == SHARE else duration


DIRECTIONS = REGISTRIES["optimizer"].with_built_in(
    {
        "adam": lambda _: optax.scale_by_adam(),
        "adamw": lambda _: optax.scale_by_adam(),
        "sgd": lambda optim: optax.trace(optim.momentum, nesterov=bool(optim.momentum)),
        "lamb": lambda _: optax.scale_by_adam(eps=1e-6),
        "lion": lambda _: optax.scale_by_lion(),
    }
)
"""The update direction of each optimizer, before weight decay and learning rate."""


def make_optimizer(optim: OptimSettings, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer. Weight decay is decoupled and skips biases and scales.

    Raises:
      UserError: unknown optimizer.
    """
    parts = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    parts.append(DIRECTIONS.find(optim.name)(optim))
    if optim.name != WITHOUT_WEIGHT_DECAY:
        parts.append(optax.add_decayed_weights(optim.weight_decay, mask=_kernels))
    if optim.name == "lamb":
        parts.append(optax.scale_by_trust_ratio())
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
