"""A network's arrays under the names of torchvision and timm."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fer_jax.weights.layout import Layer, Norm

NAMES = {
    "kernel": "weight", "scale": "weight", "slope": "weight", "mean": "running_mean",
    "var": "running_var",
}  # fmt: skip


def tensors_of(
    layers: Iterable[tuple[Layer, dict[str, np.ndarray]]], prefix="", scale=1.0
) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch file; BatchNorms that lack a scale in fer_jax get `scale`."""
    tensors = {}
    for layer, arrays in layers:
        for role, array in arrays.items():
            transposed = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            tensors[f"{prefix}{layer.torch}.{NAMES.get(role, role)}"] = transposed
        if isinstance(layer, Norm):
            ones = np.full(arrays["bias"].shape, scale, np.float32)
            tensors.setdefault(f"{prefix}{layer.torch}.weight", ones)
            tensors[f"{prefix}{layer.torch}.num_batches_tracked"] = np.array(3)
    return tensors
