"""Reads Keras' two HDF5 layouts: legacy, by position, and Keras 3, by path.

A legacy file lists its layers in an attribute, in the order of the network's layers; Keras
loads them by position. A Keras 3 file stores `.../vars/0`, ... under one path per layer. This
module does not interpret the layers. It reads nothing outside the file, which HDF5 can name.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, NamedTuple

import h5py
import numpy as np

from fer_jax.errors import UserError

ARCHIVED = "model.weights.h5"
"""The HDF5 file inside a .keras archive."""


_MAX_UNSTORED_BYTES = 16 * 2**20
_MAX_RATIO = 100
"""Larger arrays than these bytes and this multiple of what the file stores of them are refused."""


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
      UserError: a damaged file, HDF5 not written by Keras, or one that refers to other files.
    """
    try:
        with h5py.File(file, "r") as content:
            _check_contained(content, where)
            root = content.get("model_weights", content)
            if "layer_names" in root.attrs or "layer_names0" in root.attrs:
                return _legacy_layers(root)
            arrays = _by_path(content)
    except UserError:
        raise
    except Exception as error:  # h5py raises almost anything for a strange file
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


def _check_contained(content: Any, where: str) -> None:
    """Checks that arrays are stored in this file, and not much larger than what it stores.

    Raises:
      UserError: names the array.
    """
    # Exceptions do not pass through h5py's visits; a value ends them.
    if found := content.visititems_links(_outside_link) or content.visititems(_outside_array):
        raise UserError(
            f"expected {where} to contain its arrays, found {found}; use a file from where it was "
            "published"
        )


def _outside_link(name: str, link: Any) -> str | None:
    if isinstance(link, h5py.ExternalLink):
        return f"a link to the file {link.filename} at {name}"
    return None


def _outside_array(name: str, item: Any) -> str | None:
    if not isinstance(item, h5py.Dataset):
        return None
    if item.external or item.is_virtual:
        return f"an array that is stored in other files at {name}"
    stored = item.id.get_storage_size()
    if item.nbytes > max(_MAX_UNSTORED_BYTES, _MAX_RATIO * stored):
        return f"an array {item.shape} of {item.nbytes:,} bytes with {stored:,} stored at {name}"
    return None


def _legacy_layers(root: Any) -> tuple[Layer, ...]:
    layers = []
    for name in _names(root, "layer_names"):
        group = root[name]
        arrays = tuple(_array(group[weight]) for weight in _names(group, "weight_names"))
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
    names = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    if len(set(names)) < len(names):
        raise ValueError(f"a name occurs twice in the attribute {attribute}")
    return names


def _array(item: Any) -> np.ndarray:
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiub":
        raise ValueError(f"expected numbers at {item.name}")
    return np.asarray(item)


def _by_path(content: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
            arrays[name.replace("\\", "/")] = np.asarray(item)

    content.visititems(visit)
    return arrays
