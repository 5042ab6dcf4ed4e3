"""Input normalization equals Keras' `preprocess_input` and timm's configuration."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest

from fer_jax.weights.port import TABLES
from fer_jax.weights.published import IMAGENET

pytestmark = pytest.mark.parity

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)


IN_KERAS = sorted(model for model, table in TABLES.items() if "keras" in table.formats)


@pytest.mark.parametrize("model", IN_KERAS)
def test_input_equals_keras(model, keras):
    preprocess_input = getattr(keras.applications, model).preprocess_input
    ours = TABLES[model].formats["keras"].applied(PIXELS)
    np.testing.assert_allclose(ours, preprocess_input(PIXELS.copy()), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("vgg16", "tv_in1k"),
        ("inception_resnet_v2", "tf_in1k"),
        ("resnet18", "tv_in1k"),
        ("resnet50", "tv_in1k"),
    ],
)
def test_input_equals_timm(model, tag, timm):
    config = timm.get_pretrained_cfg(f"{model}.{tag}")
    theirs = (PIXELS / 255 - np.float32(config.mean)) / np.float32(config.std)
    ours = TABLES[model].formats["pytorch"].applied(PIXELS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("model", IN_KERAS)
def test_published_hash_and_url_equal_keras(model, keras):
    """They are literals in Keras' source code."""
    source = inspect.getsource(importlib.import_module(f"keras.src.applications.{model}"))
    entry = IMAGENET[model]
    assert f'"{entry.digest}"' in source
    joined = source.replace('"\n', "").replace('"', "").replace(" ", "").replace("\n", "")
    name = entry.path.rsplit("/", 1)[1]
    assert name.removeprefix(f"{model}_weights_") in joined


@pytest.mark.parametrize("model", sorted(IMAGENET.keys() - IN_KERAS))
def test_published_url_equals_timm(model, timm):
    assert IMAGENET[model].url == timm.get_pretrained_cfg(f"{model}.tv_in1k").url
