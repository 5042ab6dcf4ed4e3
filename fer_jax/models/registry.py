"""The networks by name: the only place that maps `config.model.name` to a module.

A network takes float images [B, H, W, 3] and `train: bool`, and returns float32
logits [B, classes].
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from fer_jax.models.custom_cnn import CustomCNN
from fer_jax.models.light_vgg import LightVGG

MODELS: dict[str, Callable[..., nn.Module]] = {
    "custom_cnn": CustomCNN,
    "light_vgg": LightVGG,
}


class UnknownModelError(ValueError):
    """No network of this name; the message names the nearest one and all there are."""


def create_model(name: str, classes: int, **settings: Any) -> nn.Module:
    """Builds the network `name` with a head of `classes` outputs.

    Args:
      name: a key of `MODELS`.
      classes: number of classes of the data set.
      **settings: fields of the module, such as `dropout` and `dtype`.

    Raises:
      UnknownModelError: if there is no such network.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(sorted(MODELS))
        raise UnknownModelError(f"no network is called {name!r}{hint} (there are: {known})")
    return MODELS[name](classes=classes, **settings)
