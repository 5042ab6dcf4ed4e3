"""Loading a ported file: the arrays of the backbone are replaced, the head is unchanged."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import flax.traverse_util
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from fer_jax.errors import UserError
from fer_jax.weights import load, port
from fer_jax.weights.keras_h5 import Layer
from fer_jax.weights.layout import CAFFE
from fer_jax.weights.source import Source


@pytest.fixture
def ported(tmp_path, marked):
    """A ported vgg16 whose arrays are filled with the number of their layer."""
    layers = tuple(Layer(f"l{i}", tuple(a.values())) for i, (_, a) in enumerate(marked("vgg16")))
    source = Source(tmp_path / "keras.h5", "keras legacy h5", "f" * 64, layers=layers)
    return port.port_source(source, "vgg16").write(tmp_path / "vgg16.safetensors")


@pytest.fixture
def state():
    """The variables of a network with a head, all zero."""
    shapes = port.backbone_shapes("vgg16") | {"params/head/kernel": (512, 7)}
    flat = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    return SimpleNamespace(
        params=flax.traverse_util.unflatten_dict(flat, sep="/")["params"], batch_stats={}
    )


def test_a_ported_file_describes_itself(ported):
    weights = load.open_weights(ported, "vgg16")
    assert weights.input_format == CAFFE
    assert weights.to_json() == {
        "file": "vgg16.safetensors",
        "sha256": weights.sha256,
        "source": "keras.h5",
        "source_sha256": "f" * 64,
        "layout": "keras legacy h5",
    }


def test_porting_is_deterministic(ported, tmp_path, marked):
    before = ported.read_bytes()
    layers = tuple(Layer(f"l{i}", tuple(a.values())) for i, (_, a) in enumerate(marked("vgg16")))
    source = Source(tmp_path / "keras.h5", "keras legacy h5", "f" * 64, layers=layers)
    assert port.port_source(source, "vgg16").write(ported).read_bytes() == before


def test_backbone_is_replaced_and_head_is_unchanged(ported, state, expected_marks):
    weights = load.open_weights(ported, "vgg16")
    params, batch_stats, loaded = load.load_into(weights, state.params, state.batch_stats)
    flat = flax.traverse_util.flatten_dict({"params": params}, sep="/")
    old = flax.traverse_util.flatten_dict({"params": state.params}, sep="/")
    expected = expected_marks("vgg16")
    assert set(loaded) == expected.keys()
    assert flat.keys() == old.keys()
    assert batch_stats == state.batch_stats
    for name, array in flat.items():
        assert isinstance(array, jnp.ndarray)
        if name in expected:
            assert float(array.min()) == float(array.max()) == expected[name]
        else:
            assert array is old[name]


def test_statistics_are_loaded(tmp_path):
    params = {"backbone": {"bn": {"bias": jnp.zeros(2)}}, "head": {"bias": jnp.zeros(3)}}
    batch_stats = {"backbone": {"bn": {"mean": jnp.zeros(2)}}}
    arrays = {
        "params/backbone/bn/bias": np.ones(2, np.float32),
        "batch_stats/backbone/bn/mean": np.full(2, 5, np.float32),
    }
    weights = opened(tmp_path / "x.safetensors", arrays)
    params, batch_stats, _ = load.load_into(weights, params, batch_stats)
    assert batch_stats["backbone"]["bn"]["mean"].tolist() == [5, 5]
    assert params["backbone"]["bn"]["bias"].tolist() == [1, 1]


def opened(path, arrays, model="vgg16"):
    source = Source(path, "pytorch", "0" * 64)
    port.Port(source, model, arrays, CAFFE, (), 0).write(path)
    return load.open_weights(path, model)


def test_weights_with_the_published_stem_do_not_fit_a_small_stem(tmp_path):
    shapes = port.backbone_shapes("resnet18")
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights = opened(tmp_path / "x.safetensors", arrays, "resnet18")
    small = shapes | {"params/backbone/stem/conv/kernel": (3, 3, 3, 64)}
    tree = flax.traverse_util.unflatten_dict(
        {name: jnp.zeros(shape) for name, shape in small.items()}, sep="/"
    )
    message = r"stem/conv/kernel \(7, 7, 3, 64\) instead of \(3, 3, 3, 64\); .* config.model fields"
    with pytest.raises(UserError, match=message):
        load.load_into(weights, tree["params"], tree["batch_stats"])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def strip_metadata(path):
    safetensors.numpy.save_file({"a": np.zeros(2)}, path)


def replace_by_text(path):
    path.write_text("not weights")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: path.unlink(),
            "found no file; create it with: fer-jax port-weights",
        ),
        (truncate, "expected a complete file of ported weights"),
        (strip_metadata, "KeyError.*port it first: fer-jax port-weights"),
        (replace_by_text, "port it first"),
    ],
)
def test_a_file_that_is_not_ported_is_rejected(ported, damage, message):
    damage(ported)
    with pytest.raises(UserError, match=f"(?s){message}"):
        load.open_weights(ported, "vgg16")


def test_weights_of_another_network_are_rejected(ported):
    message = r"expected weights of inception_resnet_v2 .* found weights of vgg16"
    with pytest.raises(UserError, match=message):
        load.open_weights(ported, "inception_resnet_v2")


def test_a_modified_file_is_rejected(ported, state):
    weights = dataclasses.replace(load.open_weights(ported, "vgg16"), sha256="1" * 64)
    with pytest.raises(UserError, match="changed while being read"):
        load.load_into(weights, state.params, state.batch_stats)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"params/backbone/block1_conv1/bias": np.zeros(64, np.float32)}, "do not fit"),
        ({"params/backbone/block1_conv1/bias": np.zeros(3, np.float32)}, "do not fit"),
    ],
)
def test_arrays_that_do_not_fit_are_rejected(tmp_path, state, arrays, message):
    weights = opened(tmp_path / "x.safetensors", arrays)
    with pytest.raises(UserError, match=message):
        load.load_into(weights, state.params, state.batch_stats)
