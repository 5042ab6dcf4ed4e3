"""Learning-rate schedules and optimizers from Optax, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from fer_jax.errors import UserError

SCHEDULES = ("cosine", "step", "plateau", "constant")
DECAYING = ("adamw", "sgd", "lamb", "lion")
FINAL_SHARE = 0.01  # of the highest rate, at the end of the cosine


@dataclasses.dataclass(frozen=True)
class OptimSettings:
    """What an optimizer and its schedule are; most fields are described in configs/defaults.py.

    Attributes:
      warmup_steps: steps until the rate is at its highest.
      decay_steps: steps between two falls of the step schedule.
    """

    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    clip_norm: float
    schedule: str
    warmup_steps: int
    decay_steps: int
    decay_factor: float

    def __post_init__(self) -> None:
        for field, found, known in (
            ("name", self.name, tuple(DIRECTIONS)),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if found not in known:
                raise UserError(
                    f"expected one of {', '.join(known)} for optim.{field}, found {found!r}"
                )
        for field in ("weight_decay", "clip_norm"):
            if getattr(self, field) < 0:
                raise UserError(
                    f"expected optim.{field} of at least 0, found {getattr(self, field)}"
                )
        if not self.learning_rate > 0:
            raise UserError(f"expected optim.learning_rate above 0, found {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"expected optim.momentum in [0, 1), found {self.momentum}")
        if not 0 < self.decay_factor < 1:
            raise UserError(
                f"expected optim.decay_factor between 0 and 1, found {self.decay_factor}"
            )
        if self.weight_decay and self.name not in DECAYING:
            raise UserError(
                f"optim.weight_decay needs optim.name={' or '.join(DECAYING)}, found {self.name}"
            )


def make_schedule(settings: OptimSettings, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, for a run of `steps` steps.

    That of "plateau" is constant: validation scales it, see `plateau`.
    """
    warmup, peak = settings.warmup_steps, settings.learning_rate
    rest = max(1, steps - warmup)
    if settings.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=FINAL_SHARE)
    elif settings.schedule == "step":
        after = optax.exponential_decay(
            peak, max(1, settings.decay_steps), settings.decay_factor, staircase=True
        )
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    # From the first step on the rate is above zero: a step that changes nothing is waste.
    rise = optax.linear_schedule(peak / warmup, peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


DIRECTIONS: Mapping[str, Callable[[OptimSettings], optax.GradientTransformation]] = {
    "adam": lambda _: optax.scale_by_adam(),
    "adamw": lambda _: optax.scale_by_adam(),
    "sgd": lambda settings: optax.trace(settings.momentum, nesterov=bool(settings.momentum)),
    "lamb": lambda _: optax.scale_by_adam(eps=1e-6),
    "lion": lambda _: optax.scale_by_lion(),
}
"""What each optimizer makes of a gradient, before weight decay and the learning rate."""


def make_optimizer(
    settings: OptimSettings, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer; weight decay is decoupled and spares biases and scales."""
    parts = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm else []
    parts.append(DIRECTIONS[settings.name](settings))
    if settings.name in DECAYING:
        parts.append(optax.add_decayed_weights(settings.weight_decay, mask=_kernels))
    if settings.name == "lamb":
        parts.append(optax.scale_by_trust_ratio())
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
