"""The parts of a run that follow from its configuration: network, pixels, augmentation.

Shared by the verbs, so that training and evaluation cannot build them differently. How a
run learns is learning's.
No data is opened and no device is used here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from fer_jax.data.augment import CHANGES, Augmentation
from fer_jax.data.preprocess import InputFormat, Preprocessing
from fer_jax.errors import UserError
from fer_jax.models.layers.pool import GLOBAL_POOLINGS
from fer_jax.models.registry import (
    UnknownModelError,
    UnknownSettingError,
    create_model,
    find_network,
)
from fer_jax.training.schedule import check_share
from fer_jax.weights import published
from fer_jax.weights.load import Weights, open_weights

SHARES = tuple(field for field in CHANGES if field != "rotation")
"""Fields of `config.augment` in [0, 1]."""

DTYPES = ("float32", "bfloat16")
MODEL_SETTINGS = ("dropout", "head_widths", "pooling", "batch_norm", "small_stem", "remat")
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
        check_share("model.dropout", model.dropout)
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


def data_arguments(config: ConfigDict) -> dict[str, Any]:
    """What `tfds_builders.prepare.prepare` is called with for the data of a configuration."""
    data = config.data
    return {
        "name": data.name,
        "variant": data.config,
        "data_dir": data.dir,
        "manual_dir": data.manual_dir,
        "protocol": data.protocol,
        "seed": data.protocol_seed,
        "crop": data.crop.to_dict(),
    }


def make_preprocessing(
    config: ConfigDict, learned: tuple[str, InputFormat | None] | None, mask: str = "none"
) -> Preprocessing:
    """From a face to network input, as `config.data` and the first weights say.

    Args:
      config: of the run.
      learned: the normalisation that the network's first weights were trained with; None
        where they are random.
      mask: of the data's protocol, for `data.mask` "auto".

    Raises:
      UserError: an unknown normalisation or mask, one of weights where there are none, a size
        that is none or a negative margin.
    """
    normalize, input_format = config.data.normalize, None
    if normalize == "auto":
        normalize, input_format = learned or ("standardize", None)
    elif normalize == "weights" and learned:
        normalize, input_format = learned
    if config.data.mask != "auto":
        mask = config.data.mask
    try:
        return Preprocessing(
            config.data.size, normalize, input_format, config.data.face_margin, mask
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def make_augmentation(config: ConfigDict) -> Augmentation:
    """The random changes of training images.

    Raises:
      UserError: a value outside its range.
    """
    settings = Augmentation(**config.augment.to_dict())
    for field in SHARES:
        check_share(f"augment.{field}", getattr(settings, field))
    if not 0 <= settings.rotation <= 180:
        raise UserError(f"expected augment.rotation in [0, 180], found {settings.rotation}")
    for field in ("mixup_alpha", "cutmix_alpha"):
        if not getattr(settings, field) > 0:
            raise UserError(f"expected augment.{field} above 0, found {getattr(settings, field)}")
    if settings.mixup + settings.cutmix > 1:
        raise UserError(
            "expected augment.mixup and augment.cutmix to be at most 1 together, found "
            f"{settings.mixup} and {settings.cutmix}: an image is mixed in one way"
        )
    return settings
