"""Learning-rate schedules and optimizers from Optax, by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax

from fer_jax.errors import UserError

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("cosine", "constant")
FINAL_SHARE = 0.01  # of the highest rate, at the end of the cosine


@dataclasses.dataclass(frozen=True)
class OptimSettings:
    """The section `optim` of the configuration; the fields are described there."""

    name: str
    learning_rate: float
    weight_decay: float
    schedule: str
    warmup: float
    finetune_rate: float

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UserError(
                f"expected one of {', '.join(OPTIMIZERS)} for optim.name, found {self.name!r}"
            )
        if self.schedule not in SCHEDULES:
            raise UserError(
                f"expected one of {', '.join(SCHEDULES)} for optim.schedule, "
                f"found {self.schedule!r}"
            )
        if self.weight_decay and self.name == "adam":
            raise UserError("optim.weight_decay needs optim.name=adamw or sgd, found adam")
        if not 0 <= self.warmup < 1:
            raise UserError(
                f"expected optim.warmup to be a share of all steps in [0, 1), found {self.warmup}"
            )


def make_schedule(settings: OptimSettings, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, for a run of `steps` steps."""
    warmup = round(settings.warmup * steps)
    peak = settings.learning_rate
    if settings.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(1, steps - warmup), alpha=FINAL_SHARE)
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    # From the first step on the rate is above zero: a step that changes nothing is waste.
    rise = optax.linear_schedule(peak / warmup, peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(
    settings: OptimSettings, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer; weight decay is decoupled and spares biases and scales."""
    decay = optax.add_decayed_weights(settings.weight_decay, mask=_kernels)
    if settings.name == "sgd":
        return optax.chain(optax.trace(0.9, nesterov=True), decay, _descend(schedule))
    if settings.name == "adamw":
        return optax.chain(optax.scale_by_adam(), decay, _descend(schedule))
    return optax.chain(optax.scale_by_adam(), _descend(schedule))


def _descend(schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.scale_by_learning_rate(schedule)


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
