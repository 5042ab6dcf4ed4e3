"""Ported backbones give the same features as Keras and timm, for random weights and statistics.

In inference and float32. "light" cases use the smallest image size of each network, "full" ones
the paper's. `pytest -s` prints the differences.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path

import flax.traverse_util
import h5py
import jax
import numpy as np
import pytest

from fer_jax.models.registry import create_model
from fer_jax.weights.port import port

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*"),  # raised inside Keras
]

TOLERANCE = 1e-5
LIGHT = {"vgg16": 32, "inception_resnet_v2": 75, "resnet18": 32, "resnet50": 33}
SIZES = [pytest.param(model, size, id=f"{model}-light") for model, size in LIGHT.items()] + [
    pytest.param(model, 224, id=f"{model}-full", marks=pytest.mark.slow) for model in LIGHT
]
KERAS_SIZES = [size for size in SIZES if not size.values[0].startswith("resnet")]
LAST = {"vgg16": "block5_pool", "inception_resnet_v2": "conv_7b_ac"}


def random_images(size: int) -> np.ndarray:
    """float32[2, size, size, 3] with mean 0 and variance 1."""
    return np.random.default_rng(7).normal(0, 1, (2, size, size, 3)).astype(np.float32)


def our_features(path: Path, model: str, images: np.ndarray) -> np.ndarray:
    """The output of the backbone with the ported arrays."""
    variables = flax.traverse_util.unflatten_dict(port(path, model).tensors, sep="/")
    for collection in variables:
        variables[collection] = variables[collection]["backbone"]
    backbone = backbone_of(model)
    arguments = (images,) if model == "vgg16" else (images, False)
    return np.asarray(jax.jit(backbone.apply, static_argnums=2)(variables, *arguments))


def backbone_of(model: str):
    """The module whose variables are those under `backbone`."""
    from fer_jax.models.inception_resnet_v2 import InceptionResNetV2Backbone
    from fer_jax.models.resnet import ResNetBackbone
    from fer_jax.models.vgg import VGGBackbone

    network = create_model(model, 2)
    if model.startswith("resnet"):
        return ResNetBackbone(network.depths, network.has_bottlenecks)
    return {"vgg16": VGGBackbone, "inception_resnet_v2": InceptionResNetV2Backbone}[model]()


def keras_model(keras, model: str, size: int, random_weight):
    """Keras' network with random weights; with its top, except VGG16's, which is large."""
    if model == "vgg16":
        network = keras.applications.VGG16(
            weights=None, include_top=False, input_shape=(size, size, 3)
        )
    else:
        network = keras.applications.InceptionResNetV2(
            weights=None, classes=5, input_shape=(size, size, 3)
        )
    values = [
        random_weight(variable.name, tuple(variable.shape), seed)
        for seed, variable in enumerate(network.weights)
    ]
    network.set_weights(values)
    return network


def save_keras(network, path: Path) -> Path:
    """Saves the network in the layout of the file's name."""
    from keras.src.legacy.saving import legacy_h5_format

    if path.name.endswith(".weights.h5"):
        network.save_weights(path)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, network)
    else:
        network.save(path)
    return path


@pytest.fixture(scope="module")
def keras_files(keras, tmp_path_factory, random_weight):
    """(files in each layout, features of `random_images`) of a network at a size."""

    @functools.cache
    def make(model: str, size: int):
        network = keras_model(keras, model, size, random_weight)
        folder = tmp_path_factory.mktemp(model)
        files = {
            name: save_keras(network, folder / name) for name in ("a.h5", "a.weights.h5", "a.keras")
        }
        features = keras.Model(network.input, network.get_layer(LAST[model]).output)
        return files, np.asarray(features.predict(random_images(size), verbose=0))

    return make


@pytest.mark.parametrize(("model", "size"), KERAS_SIZES)
def test_keras_legacy_h5(model, size, keras_files, difference):
    files, theirs = keras_files(model, size)
    start = time.monotonic()
    error = difference(our_features(files["a.h5"], model, random_images(size)), theirs)
    print(f"\n{model} {size} px, Keras h5: {error:.1e} ({time.monotonic() - start:.0f} s)")
    assert error <= TOLERANCE


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
@pytest.mark.parametrize("model", ["vgg16", "inception_resnet_v2"])
def test_keras_3_layouts_give_equal_arrays(model, name, keras_files):
    files, _ = keras_files(model, 32 if model == "vgg16" else 75)
    legacy, other = port(files["a.h5"], model), port(files[name], model)
    assert legacy.tensors.keys() == other.tensors.keys()
    for key, array in legacy.tensors.items():
        np.testing.assert_array_equal(array, other.tensors[key])
    assert other.input_format == legacy.input_format


@pytest.fixture(scope="module")
def timm_network(timm, torch, random_weight):
    """timm's network with random weights."""

    @functools.cache
    def make(model: str):
        # VGG16's hidden dense layers have 480 MB and are dropped when porting: make them narrow.
        settings = {"mlp_ratio": 1 / 64} if model == "vgg16" else {}
        network = timm.create_model(model, num_classes=5, **settings).eval()
        state = {
            name: torch.tensor(random_weight(name, tuple(array.shape), 0))
            if array.is_floating_point()
            else array
            for name, array in network.state_dict().items()
        }
        network.load_state_dict(state)
        return network

    return make


def save_tensors(state, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(state, path)


def timm_features(torch, network, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        out = network.forward_features(torch.tensor(images.transpose(0, 3, 1, 2).copy()))
    return out.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("model", "size"), SIZES)
def test_timm_safetensors(model, size, torch, timm_network, difference, tmp_path):
    network = timm_network(model)
    save_tensors(network.state_dict(), tmp_path / "model.safetensors")
    ours = our_features(tmp_path / "model.safetensors", model, random_images(size))
    error = difference(ours, timm_features(torch, network, random_images(size)))
    print(f"\n{model} {size} px, timm safetensors: {error:.1e}")
    assert error <= TOLERANCE


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("model", ["vgg16", "inception_resnet_v2", "resnet18"])
def test_pth_and_safetensors_give_equal_arrays(model, as_zip, torch, timm_network, tmp_path):
    state = timm_network(model).state_dict()
    save_tensors(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=as_zip)
    expected = port(tmp_path / "a.safetensors", model)
    actual = port(tmp_path / "a.pth", model)
    assert actual.dropped == expected.dropped
    assert actual.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        np.testing.assert_array_equal(actual.tensors[name], array)
