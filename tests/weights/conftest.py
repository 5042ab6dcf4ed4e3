"""Small synthetic weight files, written without Keras and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest

from fer_jax.weights.layout import Conv, Layer, PReLU
from fer_jax.weights.port import TABLES, backbone_shapes

FIXTURE = Path(__file__).parent / "fixture"


@pytest.fixture
def fixture() -> Path:
    """The folder of recorded files."""
    return FIXTURE


def write_legacy(path: Path, layers: Iterable[tuple[str, list[np.ndarray]]], **variant) -> Path:
    """Writes an HDF5 file as Keras 1 to 3 do: groups, with their names in attributes."""
    layers = list(layers)
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if variant.get("whole_model") else file
        names = [name.encode() for name, _ in layers]
        if variant.get("chunked"):
            half = len(names) // 2
            root.attrs["layer_names0"], root.attrs["layer_names1"] = names[:half], names[half:]
        else:
            root.attrs["layer_names"] = names
        for name, arrays in layers:
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}_{i}:0".encode() for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                group.create_dataset(f"{name}_{i}:0", data=array)
    return path


@pytest.fixture
def legacy_h5() -> Callable[..., Path]:
    return write_legacy


def roles_of(layer: Layer) -> list[tuple[str, str]]:
    """(role, name of the array in fer_jax)."""
    if isinstance(layer, Conv):
        roles = ["kernel", "bias"] if layer.bias else ["kernel"]
    elif isinstance(layer, PReLU):
        roles = ["slope"]
    else:
        roles = [*(["scale"] if layer.scaled else []), "bias"]
        roles += [] if layer.is_affine else ["mean", "var"]
    return [
        (role, f"{'batch_stats' if role in ('mean', 'var') else 'params'}/{layer.path}/{role}")
        for role in roles
    ]


def marked_layers(model: str) -> list[tuple[Layer, dict]]:
    """Every layer of a network in its table's order, with arrays filled with an identifying number.

    The number is the layer's index plus a quarter per role. The arrays take no memory.
    """
    shapes = backbone_shapes(model)
    return [
        (
            layer,
            {
                role: np.broadcast_to(np.float32(index + 0.25 * i), shapes[name])
                for i, (role, name) in enumerate(roles_of(layer))
            },
        )
        for index, layer in enumerate(TABLES[model].layers)
    ]


@pytest.fixture
def marked() -> Callable[[str], list[tuple[Layer, dict]]]:
    return marked_layers


@pytest.fixture
def expected_marks() -> Callable[[str], dict[str, float]]:
    """The number in each array of fer_jax after porting `marked` layers."""

    def expected(model: str) -> dict[str, float]:
        return {
            name: index + 0.25 * i
            for index, layer in enumerate(TABLES[model].layers)
            for i, (_, name) in enumerate(roles_of(layer))
        }

    return expected
