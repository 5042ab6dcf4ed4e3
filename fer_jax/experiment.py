"""The parts of a run that follow from its configuration: network, optimizer, input.

Shared by the verbs, so that training and evaluation cannot build them differently.
No data is opened and no device is used here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from fer_jax.data.augment import Augmentation
from fer_jax.data.preprocess import Preprocessing
from fer_jax.engine.freezing import BACKBONE, find_blocks, freeze
from fer_jax.engine.optim import OptimSettings, make_optimizer, make_schedule
from fer_jax.engine.stages import Stage
from fer_jax.errors import UserError
from fer_jax.models.registry import UnknownModelError, create_model

DTYPES = ("float32", "bfloat16")


def make_model(config: ConfigDict, classes: int) -> nn.Module:
    """The network of `config.model` with a head of `classes` outputs.

    Raises:
      UserError: unknown network or type.
    """
    if config.model.dtype not in DTYPES:
        raise UserError(
            f"expected one of {', '.join(DTYPES)} for model.dtype, found {config.model.dtype!r}"
        )
    settings: dict[str, Any] = {"dtype": config.model.dtype}
    if config.model.dropout is not None:
        _check_share("model.dropout", config.model.dropout)
        settings["dropout"] = config.model.dropout
    try:
        return create_model(config.model.name, classes, **settings)
    except UnknownModelError as error:
        raise UserError(str(error)) from None


def make_preprocessing(config: ConfigDict) -> Preprocessing:
    """From a face to network input, as `config.data` says.

    Raises:
      UserError: an unknown normalisation, a size that is none or a negative margin.
    """
    try:
        return Preprocessing(
            size=config.data.size,
            normalize=config.data.normalize,
            face_margin=config.data.face_margin,
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def make_augmentation(config: ConfigDict) -> Augmentation:
    """The random changes of training images.

    Raises:
      UserError: a value outside its range.
    """
    for field in ("flip", "zoom", "shift", "brightness", "contrast"):
        _check_share(f"augment.{field}", config.augment[field])
    return Augmentation(**config.augment.to_dict())


def make_stages(config: ConfigDict, model: nn.Module, epoch_steps: int) -> tuple[Stage, ...]:
    """The stages of training, each with its optimizer: one, or the head's and then the rest's.

    Args:
      config: of the run.
      model: its network.
      epoch_steps: steps of one pass.

    Raises:
      UserError: an unknown name, a value outside its range, or nothing left to learn.
    """
    settings = OptimSettings(**config.optim.to_dict())
    blocks = find_blocks(model, config.data.size)
    head_epochs, epochs = config.train.head_epochs, config.train.epochs
    if not 0 <= head_epochs < epochs:
        raise UserError(
            f"expected train.head_epochs from 0 to below train.epochs={epochs}, found {head_epochs}"
        )
    plan = [(0, epochs, config.model.freeze, settings)]
    if head_epochs:
        finer = dataclasses.replace(settings, learning_rate=settings.finetune_rate)
        plan = [
            (0, head_epochs, BACKBONE, settings),
            (head_epochs, epochs, config.model.freeze, finer),
        ]
    stages = []
    for start, end, frozen_name, chosen in plan:
        schedule = make_schedule(chosen, (end - start) * epoch_steps)
        frozen = freeze(frozen_name, blocks)
        optimizer = frozen.optimizer(make_optimizer(chosen, schedule))
        stages.append(Stage(start * epoch_steps, end * epoch_steps, frozen, optimizer, schedule))
    return tuple(stages)


def check_training(config: ConfigDict) -> None:
    """Refuses values of `config.train` and `config.eval` that no run can use.

    Raises:
      UserError: naming the field.
    """
    for section, field, least in (
        ("train", "epochs", 1),
        ("train", "eval_epochs", 1),
        ("train", "patience", 0),
        ("train", "log_steps", 1),
        ("eval", "samples", 0),
    ):
        if config[section][field] < least:
            raise UserError(
                f"expected {section}.{field} of at least {least}, found {config[section][field]}"
            )
    _check_share("train.label_smoothing", config.train.label_smoothing)


def _check_share(field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"expected {field} in [0, 1], found {value}")
