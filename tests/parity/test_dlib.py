"""The face ResNet gives dlib's descriptors, for random weights in a file that dlib reads too."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from pathlib import Path

import flax.traverse_util
import jax
import numpy as np
import pytest

from fer_jax.models.face_resnet import FaceResNetBackbone
from fer_jax.weights.layout import Norm
from fer_jax.weights.port import TABLES, backbone_shapes, port
from tests.weights import dlib_file

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4
SIZE, IMAGES = 150, 3


@pytest.fixture(scope="module")
def dlib() -> types.ModuleType:
    return importlib.import_module("dlib")


@pytest.fixture(scope="module")
def descriptor_kernel() -> np.ndarray:
    return np.random.default_rng(2).normal(0, 0.1, (256, 128)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, descriptor_kernel, random_weight) -> Path:
    """A file of random weights."""
    shapes = backbone_shapes("face_resnet")

    def arrays() -> Iterator[tuple[np.ndarray, ...]]:
        for number, layer in enumerate(TABLES["face_resnet"].layers):
            if isinstance(layer, Norm):
                shape = shapes[f"params/{layer.path}/scale"]
                scale = np.random.default_rng(number).uniform(-1.5, 1.5, shape)
                yield scale.astype(np.float32), random_weight("bias", shape, number)
            else:
                rows, columns, channels, filters = shapes[f"params/{layer.path}/kernel"]
                kernel = random_weight("weight", (filters, channels, rows, columns), number)
                yield kernel, random_weight("bias", (filters,), number)

    path = tmp_path_factory.mktemp("dlib") / "random.dat"
    path.write_bytes(dlib_file.face_resnet(arrays(), descriptor_kernel))
    return path


def test_descriptors_equal_dlibs(dlib, weights, descriptor_kernel, difference):
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)
    network = dlib.face_recognition_model_v1(str(weights))
    theirs = [np.array(network.compute_face_descriptor(image)) for image in images]

    ported = port(weights, "face_resnet")
    variables = flax.traverse_util.unflatten_dict(ported.tensors, sep="/")
    params = {"params": variables["params"]["backbone"]}
    inputs = ported.input_format.applied(images.astype(np.float32))
    features = jax.jit(FaceResNetBackbone().apply)(params, inputs)
    ours = features.mean((1, 2)) @ descriptor_kernel
    error = difference(ours, theirs)
    print(f"\nface_resnet, dlib: {error:.1e}")
    assert error <= TOLERANCE
