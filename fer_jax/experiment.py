"""The parts of a run that follow from its configuration: network, optimizer, input.

Shared by the verbs, so that training and evaluation cannot build them differently.
No data is opened and no device is used here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import flax.linen as nn
from ml_collections import ConfigDict

from fer_jax.data.augment import Augmentation
from fer_jax.data.preprocess import InputFormat, Preprocessing
from fer_jax.engine.freezing import BACKBONE, NONE, find_blocks, freeze
from fer_jax.engine.optim import OptimSettings, make_optimizer, make_schedule
from fer_jax.engine.stages import Stage
from fer_jax.errors import UserError
from fer_jax.models.pooling import GLOBAL_POOLINGS
from fer_jax.models.registry import (
    UnknownModelError,
    UnknownSettingError,
    create_model,
    find_network,
)
from fer_jax.weights import published
from fer_jax.weights.load import Weights, open_weights

DTYPES = ("float32", "bfloat16")
MODEL_SETTINGS = ("dropout", "head_widths", "pooling", "batch_norm", "remat")
"""Fields of `config.model` that not every network has."""


def make_model(config: ConfigDict, classes: int) -> nn.Module:
    """The network of `config.model` with a head of `classes` outputs.

    Raises:
      UserError: unknown network or type, a setting that the network has not or cannot use, or
        pictures too small for it.
    """
    name, size = config.model.name, config.data.size
    if config.model.dtype not in DTYPES:
        raise UserError(
            f"expected one of {', '.join(DTYPES)} for model.dtype, found {config.model.dtype!r}"
        )
    _check_model_settings(config)
    chosen = {field: config.model[field] for field in MODEL_SETTINGS}
    settings = {field: value for field, value in chosen.items() if value is not None}
    try:
        least = find_network(name).least_size
        model = create_model(name, classes, dtype=config.model.dtype, **settings)
    except UnknownModelError as error:
        raise UserError(str(error)) from None
    except UnknownSettingError as error:
        raise UserError(f"{error}; leave config.model.{error.setting} unset") from None
    if size < least:
        raise UserError(
            f"expected pictures of at least {least} pixels for {name}, found {size}; "
            f"try --config.data.size={least}"
        )
    return model


def _check_model_settings(config: ConfigDict) -> None:
    model = config.model
    if model.dropout is not None:
        _check_share("model.dropout", model.dropout)
    if model.pooling not in (None, *GLOBAL_POOLINGS):
        raise UserError(
            f"expected one of {', '.join(GLOBAL_POOLINGS)} for model.pooling, "
            f"found {model.pooling!r}"
        )
    widths = model.head_widths or ()
    if not all(isinstance(width, int) and width > 0 for width in widths):
        raise UserError(
            f"expected positive integers for model.head_widths, found {widths}; "
            "try --config.model.head_widths=512,512"
        )


def find_weights(config: ConfigDict) -> Weights | None:
    """The ported weights that `config.model.pretrained` names, checked; None if it says "none".

    "imagenet" may download them into the cache.

    Raises:
      UserError: they cannot be had, or are of another network.
    """
    chosen, model = config.model.pretrained, config.model.name
    if chosen == "none":
        return None
    path = published.imagenet_port(model) if chosen == "imagenet" else Path(chosen)
    return open_weights(path, model)


def make_preprocessing(
    config: ConfigDict, learned: tuple[str, InputFormat | None] | None
) -> Preprocessing:
    """From a face to network input, as `config.data` and the first weights say.

    Args:
      config: of the run.
      learned: the normalisation that the network's first weights were trained with; None
        where they are random.

    Raises:
      UserError: an unknown normalisation, one of weights where there are none, a size that
        is none or a negative margin.
    """
    normalize, input_format = config.data.normalize, None
    if normalize == "auto":
        normalize, input_format = learned or ("standardize", None)
    elif normalize == "weights" and learned:
        normalize, input_format = learned
    try:
        return Preprocessing(config.data.size, normalize, input_format, config.data.face_margin)
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
    freezes = any(frozen_name != NONE for *_, frozen_name, _ in plan)
    blocks = find_blocks(model, config.data.size) if freezes else ()  # seconds for deep networks
    if head_epochs and not any(path[0] == BACKBONE for path in blocks):
        raise UserError(
            f"train.head_epochs trains the head before the backbone, and {config.model.name} has "
            "no backbone; use --config.train.head_epochs=0"
        )
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
