"""What follows from a run's settings alone: network, preprocessing, data set arguments.

Training, evaluation and export share these functions, so that they cannot differ.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn

from fer_jax.data.preprocess import InputFormat, Preprocessing
from fer_jax.errors import UserError
from fer_jax.models.registry import UnknownSettingError, create_model, smallest_input
from fer_jax.settings import AUTO_DTYPE, Settings

MODEL_SETTINGS = (
    "widths",
    "dropout",
    "head_widths",
    "pooling",
    "batch_norm",
    "small_stem",
    "remat",
)
"""Fields of `config.model` that only some networks have."""


def make_model(settings: Settings, classes: int) -> nn.Module:
    """Returns the network of `settings.model` with `classes` outputs, those of all heads.

    The dtype "auto" counts as float32 until `precision.resolve` has replaced it: checks before
    that need shapes only.

    Raises:
      UserError: unknown network, a field that the network does not have, a wrong number of
        widths, or an input that is too small for it.
    """
    name, size = settings.model.name, settings.data.size
    chosen = {field: getattr(settings.model, field) for field in MODEL_SETTINGS}
    fields = {field: value for field, value in chosen.items() if value is not None}
    dtype = "float32" if settings.model.dtype == AUTO_DTYPE else settings.model.dtype
    try:
        model = create_model(name, classes, dtype=dtype, **fields)
    except UnknownSettingError as error:
        raise UserError(
            f"{error}; leave config.model.{error.setting} unset: "
            f"--config.model.{error.setting}=none"
        ) from None
    except ValueError as error:
        raise UserError(str(error)) from None
    min_size = smallest_input(name, model)
    if size < min_size:
        raise UserError(
            f"expected images of at least {min_size} pixels for {name}, found {size}; "
            f"try --config.data.size={min_size}"
        )
    return model


def data_arguments(settings: Settings) -> dict[str, Any]:
    """Returns the arguments of `tfds_builders.prepare.prepare` for a run's data."""
    data = settings.data
    return {
        "name": data.name,
        "variant": data.config,
        "data_dir": data.dir,
        "manual_dir": data.manual_dir,
        "protocol": data.protocol,
        "seed": data.protocol_seed,
        "crop": dataclasses.asdict(data.crop),
        "relabel": data.relabel,
        "train_images": data.train_images,
    }


def make_preprocessing(
    settings: Settings, pretrained: tuple[str, InputFormat | None] | None, mask: str = "none"
) -> Preprocessing:
    """Returns the preprocessing of `settings.data`.

    Args:
      settings: of the run.
      pretrained: normalization that the initial weights were trained with; None if they are
        random.
      mask: the protocol's, for `data.mask` "auto".

    Raises:
      UserError: an unknown normalization or mask, "weights" without pretrained weights, a size
        or margin out of range.
    """
    normalize, input_format = settings.data.normalize, None
    if normalize == "auto":
        normalize, input_format = pretrained or ("standardize", None)
    elif normalize == "weights" and pretrained:
        normalize, input_format = pretrained
    if settings.data.mask != "auto":
        mask = settings.data.mask
    try:
        return Preprocessing(
            settings.data.size, normalize, input_format, settings.data.face_margin, mask
        )
    except ValueError as error:
        raise UserError(str(error)) from None
