"""Where arrays live: one mesh over all devices, batches split along it, the rest copied.

There is no pmap: it is a wrapper over jit today, and jit with named shardings
compiles the same program for one device and for many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fer_jax.errors import UserError

DATA_AXIS = "data"


def data_mesh() -> Mesh:
    """All devices of all processes along one axis."""
    # Linen's Dropout needs axes whose sharding the compiler chooses.
    return jax.make_mesh((jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def one_device_mesh() -> Mesh:
    """The first device of this process alone, for work too small to share."""
    devices = jax.local_devices()[:1]
    return jax.make_mesh((1,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """One copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(field: str, batch_size: int, mesh: Mesh) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Raises:
      UserError: naming `field` and the nearest sizes that can be shared.
    """
    devices = mesh.size
    if batch_size < 1 or batch_size % devices:
        above = max(1, -(-batch_size // devices)) * devices
        raise UserError(
            f"expected {field} to be a positive multiple of the {devices} devices, "
            f"found {batch_size}; try --{field}={above}"
        )


def steps_sharding(mesh: Mesh) -> NamedSharding:
    """Arrays [K, B, ...] of K steps: rows B split over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))


def put_parts(
    rows: np.ndarray, values_of: Callable[[np.ndarray], np.ndarray], placed: NamedSharding
) -> jax.Array:
    """The array of the values of `rows`, made on this host for its own devices alone.

    Args:
      rows: int64[...], the global row numbers.
      values_of: row numbers of a part to their values, [*part.shape, ...].
      placed: how the axes of `rows` are split.
    """
    parts = [
        # Explicitly, so that a transfer guard sees that it is meant.
        jax.device_put(values_of(rows[index]), device)
        for device, index in placed.addressable_devices_indices_map(rows.shape).items()
    ]
    shape = rows.shape + parts[0].shape[rows.ndim :]
    return jax.make_array_from_single_device_arrays(shape, placed, parts)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a host batch on the devices, each taking its rows."""
    placed = batch_sharding(mesh)
    return {
        name: put_parts(np.arange(len(rows)), rows.__getitem__, placed)
        for name, rows in batch.items()
    }


def free_device_bytes(mesh: Mesh) -> int | None:
    """Free memory of the fullest device of this host; None for CPUs and where none tells."""
    free = [
        stats["bytes_limit"] - stats["bytes_in_use"]
        for device in mesh.local_devices
        if device.platform != "cpu" and (stats := device.memory_stats())
    ]
    return min(free, default=None)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of every array of `tree` on each device."""
    return jax.device_put(tree, replicated(mesh))
