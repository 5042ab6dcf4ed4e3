"""Registry of the networks: maps `config.model.name` to a Flax module.

A network takes float images [B, H, W, 3] and `train: bool`, and returns float32
logits [B, classes].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import flax.linen as nn

from fer_jax.models.custom_cnn import CustomCNN
from fer_jax.models.face_resnet import FaceResNet
from fer_jax.models.inception_resnet_v2 import InceptionResNetV2
from fer_jax.models.ir50 import IR50
from fer_jax.models.light_vgg import LightVGG
from fer_jax.models.resnet import ResNet18, ResNet50, ResNet50Caffe, SENet50
from fer_jax.models.vgg import VGG16
from fer_jax.registry import REGISTRIES, Network

MODELS = REGISTRIES["network"].with_built_in(
    {
        "custom_cnn": Network(CustomCNN, 6),
        "face_resnet": Network(FaceResNet, 103),
        "inception_resnet_v2": Network(InceptionResNetV2, 75),
        "ir50": Network(IR50, 1),
        "light_vgg": Network(LightVGG, 4),
        "resnet18": Network(ResNet18, 1),
        "resnet50": Network(ResNet50, 1),
        "resnet50_caffe": Network(ResNet50Caffe, 3),
        "senet50": Network(SENet50, 3),
        "vgg16": Network(VGG16, 32),
    }
)
"""The `Network` of each name."""

_NO_SETTINGS = {"parent", "name", "classes", "shares_blocks"}
"""Module fields that are not user settings."""


class UnknownSettingError(ValueError):
    """Unknown setting of a network; the message names the known ones."""

    def __init__(self, network: str, setting: str, known: Iterable[str]) -> None:
        super().__init__(f"{network} has no {setting} (settings: {', '.join(sorted(known))})")
        self.setting = setting


def create_model(name: str, classes: int, **settings: Any) -> nn.Module:
    """Builds the network `name` with a head of `classes` outputs.

    Args:
      name: a key of `MODELS`.
      classes: number of classes of the data set.
      **settings: fields of the module, such as `dropout` and `dtype`.

    Raises:
      UserError: no such network.
      UnknownSettingError: the network has no such field.
    """
    module = MODELS.find(name).module
    known = _settings(module)
    for setting in settings:
        if setting not in known:
            raise UnknownSettingError(name, setting, known)
    return module(classes=classes, **settings)


def smallest_input(name: str, model: nn.Module) -> int:
    """Returns the smallest image side in pixels that `model`, a network of `name`, accepts."""
    # Each block of LightVGG ends with a pooling that halves the map.
    return 2 ** len(model.widths) if isinstance(model, LightVGG) else MODELS[name].min_size


def has_setting(name: str, setting: str) -> bool:
    """Whether the network `name` has the user setting `setting`.

    Raises:
      UserError: no such network.
    """
    return setting in _settings(MODELS.find(name).module)


def _settings(module: type[nn.Module]) -> set[str]:
    return {field.name for field in dataclasses.fields(module)} - _NO_SETTINGS


def shared_blocks(model: nn.Module) -> nn.Module:
    """Returns a copy of the network that traces equal blocks once, if it supports that.

    This halves the tracing time. Interceptors see only the first block of each kind, so do not
    use it for a network with frozen blocks.
    """
    return model.clone(shares_blocks=True) if hasattr(model, "shares_blocks") else model
