"""How a run learns, as its configuration says: stages, recipe, durations.

The sections `train`, `optim` and `eval`; network and input are experiment's. No data is
opened and no device is used here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict

from fer_jax import durations
from fer_jax.data.sampling import BALANCES, class_weights
from fer_jax.durations import (
    EPOCHS,
    EXAMPLES,
    PER_CENT,
    STEPS,
    Clock,
    Duration,
)
from fer_jax.errors import UserError
from fer_jax.training import tta
from fer_jax.training.checkpoint import LEAST_KEPT
from fer_jax.training.early_stopping import MONITORS, Plateau
from fer_jax.training.freezing import (
    BACKBONE,
    NONE,
    find_blocks,
    freeze,
)
from fer_jax.training.optim import OptimSettings, make_optimizer, make_schedule
from fer_jax.training.recipe import Recipe
from fer_jax.training.stages import Stage

SHARE, VALIDATIONS = "share", "validations"
"""Units of plain numbers that no duration can be given in."""

_ABSOLUTE = (EPOCHS, STEPS, EXAMPLES)


@dataclasses.dataclass(frozen=True)
class Pace:
    """When things happen, in steps.

    Attributes:
      epoch_steps: of one pass; what is left over runs on into the next pass.
      total_steps: of the whole run if it does not stop early.
      head_steps: of them, those that train the head alone.
      eval_steps: between two validations.
      log_steps: between two lines of metrics.
      patience: validations without a better one after which to stop; 0 never stops.
    """

    epoch_steps: int
    total_steps: int
    head_steps: int
    eval_steps: int
    log_steps: int
    patience: int


def make_pace(config: ConfigDict, epoch_steps: int | None) -> Pace:
    """The durations of `config.train`, in steps.

    Args:
      config: of the run.
      epoch_steps: steps of one pass; None before the data is known, when the result is of use
        for its checks alone.

    Raises:
      UserError: one that cannot be read, or that is too short or too long.
    """
    fields = {
        name: durations.parse(f"train.{name}", config.train[name], plain, units)
        for name, plain, units in (
            ("epochs", EPOCHS, _ABSOLUTE),
            ("head_epochs", EPOCHS, durations.UNITS),
            ("eval_epochs", EPOCHS, durations.UNITS),
            ("log_steps", STEPS, durations.UNITS),
            ("patience", VALIDATIONS, durations.UNITS),
        )
    }
    for name in ("epochs", "eval_epochs", "log_steps"):
        if not fields[name].amount:
            raise UserError(f"expected train.{name} above 0, found {config.train[name]}")
    passes = epoch_steps or 1
    clock = Clock(config.train.batch_size, passes)
    total = clock.steps(fields["epochs"])
    clock = dataclasses.replace(clock, total_steps=total)
    head, period = clock.steps(fields["head_epochs"]), clock.steps(fields["eval_epochs"])
    # Without data, different units cannot be compared.
    if head >= total and (epoch_steps is not None or _same_unit(fields)):
        raise UserError(
            f"expected train.head_epochs below train.epochs={config.train.epochs}, "
            f"found {config.train.head_epochs}"
        )
    patience = fields["patience"]
    waits = patience.amount
    if patience.unit != VALIDATIONS:
        waits = clock.steps(patience) / period
    logs = clock.steps(fields["log_steps"])
    return Pace(passes, total, head, period, logs, math.ceil(waits))


def _same_unit(fields: Mapping[str, Duration]) -> bool:
    return fields["head_epochs"].unit in (fields["epochs"].unit, PER_CENT)


def make_recipe(config: ConfigDict, labels: np.ndarray | None = None, classes: int = 0) -> Recipe:
    """How one training step learns from its batch.

    Args:
      config: of the run.
      labels: int[N], of the training records, where class weights are wanted.
      classes: how many there are.
    """
    weights = None
    if config.train.balance == "class_weights" and labels is not None:
        weights = tuple(class_weights(np.bincount(labels, minlength=classes)).tolist())
    return Recipe(
        label_smoothing=config.train.label_smoothing,
        focal_gamma=config.train.focal_gamma,
        class_weights=weights,
        accumulate=config.train.accumulate,
        sam_rho=config.optim.sam_rho,
        ema_decay=config.optim.ema_decay,
        scales_rate=config.optim.schedule == "plateau",
    )


def make_plateau(config: ConfigDict) -> Plateau | None:
    """The memory of the plateau schedule of a run that has not begun; None with another."""
    if config.optim.schedule != "plateau":
        return None
    return Plateau(config.optim.plateau_patience, config.optim.decay_factor)


def make_stages(
    config: ConfigDict, model: nn.Module, epoch_steps: int | None = None
) -> tuple[Stage, ...]:
    """The stages of training, each with its optimizer: one, or the head's and then the rest's.

    Args:
      config: of the run.
      model: its network.
      epoch_steps: steps of one pass; None where only the optimizers' form is wanted.

    Raises:
      UserError: an unknown name, a value outside its range, or nothing left to learn.
    """
    plan = list(_plan(config, epoch_steps))
    freezes = any(frozen_name != NONE for *_, frozen_name, _ in plan)
    blocks = find_blocks(model, config.data.size) if freezes else ()  # seconds for deep networks
    if len(plan) > 1 and not any(path[0] == BACKBONE for path in blocks):
        raise UserError(
            f"train.head_epochs trains the head before the backbone, and {config.model.name} has "
            "no backbone; use --config.train.head_epochs=0"
        )
    stages = []
    for start, end, frozen_name, rate in plan:
        settings = _optim_settings(config, rate, end - start, epoch_steps or 1)
        schedule = make_schedule(settings, end - start)
        frozen = freeze(frozen_name, blocks)
        optimizer = frozen.optimizer(make_optimizer(settings, schedule))
        stages.append(Stage(start, end, frozen, optimizer, schedule))
    return tuple(stages)


def _plan(config: ConfigDict, epoch_steps: int | None) -> Iterator[tuple[int, int, str, float]]:
    """First step, last step, what is frozen and the highest rate of each stage."""
    if epoch_steps is None:
        has_head = durations.parse("train.head_epochs", config.train.head_epochs, EPOCHS).amount
        head, total = int(has_head > 0), 2
    else:
        pace = make_pace(config, epoch_steps)
        head, total = pace.head_steps, pace.total_steps
    freezes, rate = config.model.freeze, config.optim.learning_rate
    if not head:
        yield 0, total, freezes, rate
        return
    yield 0, head, BACKBONE, rate
    yield head, total, freezes, config.optim.finetune_rate


def _optim_settings(config: ConfigDict, rate: float, steps: int, epoch_steps: int) -> OptimSettings:
    optim = config.optim
    clock = Clock(config.train.batch_size, epoch_steps, steps)
    warmup = durations.parse("optim.warmup", optim.warmup, SHARE)
    if warmup.unit == SHARE:
        if warmup.amount >= 1:
            raise UserError(
                "expected optim.warmup to be a share of all steps in [0, 1), or to have a unit "
                f'such as "500st", found {optim.warmup}'
            )
        warmup = Duration(100 * warmup.amount, PER_CENT)
    every = durations.parse("optim.decay_every", optim.decay_every, EPOCHS)
    return OptimSettings(
        name=optim.name,
        learning_rate=rate,
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        clip_norm=optim.clip_norm,
        schedule=optim.schedule,
        warmup_steps=min(clock.steps(warmup), steps),
        decay_steps=clock.steps(every),
        decay_factor=optim.decay_factor,
    )


def check_learning(config: ConfigDict) -> None:
    """Refuses values that no data could make right.

    Raises:
      UserError: naming the field.
    """
    train, optim = config.train, config.optim
    make_pace(config, None)
    for field, found, known in (
        ("train.balance", train.balance, BALANCES),
        ("train.monitor", train.monitor, MONITORS),
        ("eval.tta", config.eval.tta, tta.VIEWS),
    ):
        if found not in known:
            raise UserError(f"expected one of {', '.join(known)} for {field}, found {found!r}")
    check_share("train.label_smoothing", train.label_smoothing)
    for field, found, least in (
        ("train.focal_gamma", train.focal_gamma, 0),
        ("train.accumulate", train.accumulate, 1),
        ("optim.sam_rho", optim.sam_rho, 0),
        ("optim.plateau_patience", optim.plateau_patience, 1),
        ("train.keep", train.keep, LEAST_KEPT),
        ("train.pictures", train.pictures, 0),
        ("eval.samples", config.eval.samples, 0),
    ):
        if found < least:
            raise UserError(f"expected {field} of at least {least}, found {found}")
    if not 0 <= optim.ema_decay < 1:
        raise UserError(f"expected optim.ema_decay in [0, 1), found {optim.ema_decay}")
    if optim.finetune_rate <= 0:
        raise UserError(f"expected optim.finetune_rate above 0, found {optim.finetune_rate}")
    if train.steps_per_dispatch is not None and train.steps_per_dispatch < 1:
        raise UserError(
            f"expected train.steps_per_dispatch of at least 1, found {train.steps_per_dispatch}"
        )
    if train.batch_size % train.accumulate:
        raise UserError(
            f"expected train.accumulate to divide train.batch_size={train.batch_size}, "
            f"found {train.accumulate}"
        )


def check_share(field: str, value: float) -> None:
    """Refuses what is no share.

    Raises:
      UserError: naming the field.
    """
    if not 0 <= value <= 1:
        raise UserError(f"expected {field} in [0, 1], found {value}")
