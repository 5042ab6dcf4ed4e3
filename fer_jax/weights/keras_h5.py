"""Reads Keras' two HDF5 layouts: legacy, by position, and Keras 3, by path.

A legacy file lists its layers in an attribute, in the order of the network's layers; Keras
loads them by position. A Keras 3 file stores `.../vars/0`, ... under one path per layer. This
module does not interpret the layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, NamedTuple

import h5py
import numpy as np

from fer_jax.errors import UserError

ARCHIVED = "model.weights.h5"
"""The HDF5 file inside a .keras archive."""


class Layer(NamedTuple):
    """A layer with weights in a legacy file: its name, and its arrays in file order."""

    name: str
    arrays: tuple[np.ndarray, ...]


def read_h5(file: Path | IO[bytes], where: str) -> tuple[Layer, ...] | dict[str, np.ndarray]:
    """Returns the layers of a legacy file, or the arrays of a Keras 3 file by path.

    Args:
      file: HDF5 file.
      where: name of the file in error messages.

    Raises:
      UserError: a damaged file, or HDF5 not written by Keras.
    """
    try:
        with h5py.File(file, "r") as content:
            root = content.get("model_weights", content)
            if "layer_names" in root.attrs or "layer_names0" in root.attrs:
                return _legacy_layers(root)
            arrays = _by_path(content)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"expected a complete Keras HDF5 file, found {where} truncated or damaged "
            f"({str(error).strip(chr(34))}); download it again"
        ) from error
    if not any("/vars/" in name for name in arrays):
        raise UserError(
            f"expected an HDF5 file written by Keras, found {where} with neither a layer_names "
            "attribute (legacy) nor groups named vars (Keras 3)"
        )
    return arrays


def _legacy_layers(root: Any) -> tuple[Layer, ...]:
    layers = []
    for name in _names(root, "layer_names"):
        group = root[name]
        arrays = tuple(np.asarray(group[weight]) for weight in _names(group, "weight_names"))
        if arrays:
            layers.append(Layer(name, arrays))
    return tuple(layers)


def _names(group: Any, attribute: str) -> list[str]:
    """Reads a list of names; Keras splits one of over 64 KB into attribute0, attribute1, ..."""
    if attribute in group.attrs:
        values = list(group.attrs[attribute])
    else:
        values, part = [], 0
        while f"{attribute}{part}" in group.attrs:
            values += list(group.attrs[f"{attribute}{part}"])
            part += 1
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _by_path(content: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
            arrays[name.replace("\\", "/")] = np.asarray(item)

    content.visititems(visit)
    return arrays
