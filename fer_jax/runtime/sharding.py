"""Where arrays live: one mesh over all devices, which share every batch.

Each device has a copy of the rest, unless `config.train.fsdp` has so many of them share one:
then each keeps its part of every large array of the state. A step gathers the parameters, for
as long as it needs them, and splits the gradients again; moments of the optimizer and averages
of the weights are never whole anywhere.

There is no pmap: it is a wrapper over jit today, and jit with named shardings
compiles the same program for one device and for many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fer_jax.errors import UserError

DATA_AXIS, FSDP_AXIS = "data", "fsdp"

ROW_AXES = (DATA_AXIS, FSDP_AXIS)
"""Rows of a batch are split over every device, whether or not it has a whole state."""

LEAST_SPLIT_BYTES = 2**20
"""Smaller arrays of the state are copied: gathering one costs more than the memory it saves."""


def data_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices as a grid, such that the `fsdp` of a row have one copy of the state.

    Args:
      fsdp: devices that share a copy; 1 gives each its own.
      devices: all of all processes by default.

    Raises:
      UserError: they cannot be put into rows of `fsdp`.
    """
    count = jax.device_count() if devices is None else len(devices)
    if fsdp < 1 or count % fsdp:
        fit = [parts for parts in range(1, count + 1) if not count % parts]
        raise UserError(
            f"expected config.train.fsdp to be a divisor of the {count} devices "
            f"({', '.join(map(str, fit))}), found {fsdp}; try --config.train.fsdp="
            f"{math.gcd(fsdp, count)}"
        )
    # Linen's Dropout needs axes whose sharding the compiler chooses.
    types = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((count // fsdp, fsdp), ROW_AXES, axis_types=types, devices=devices)


def one_device_mesh() -> Mesh:
    """The first device of this process alone, for work too small to share."""
    return data_mesh(devices=jax.local_devices()[:1])


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows split over the devices."""
    return NamedSharding(mesh, PartitionSpec(ROW_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """One copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(tree: Any, mesh: Mesh) -> Any:
    """How each array of a state lies: a large one split along its longest axis that can be.

    Args:
      tree: of arrays or their shapes: a state, or any part of one.
      mesh: of the devices.
    """
    parts = mesh.shape[FSDP_AXIS]

    def placed(leaf: Any) -> NamedSharding:
        axes = [axis for axis, length in enumerate(leaf.shape) if not length % parts]
        if parts == 1 or not axes or leaf.size * leaf.dtype.itemsize < LEAST_SPLIT_BYTES:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, FSDP_AXIS))

    return jax.tree.map(placed, tree)


def split(tree: Any, mesh: Mesh | None) -> Any:
    """Traced: `tree`, a state or a part of one, as it lies between steps."""
    if mesh is None or mesh.shape[FSDP_AXIS] == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, state_shardings(tree, mesh))


def gathered(tree: Any, mesh: Mesh | None) -> Any:
    """Traced: `tree`, a part of a state, whole on each device for what is computed with it.

    Without it the compiler would split what a layer computes as the layer's parameters are,
    and move activations to and fro.
    """
    if mesh is None or mesh.shape[FSDP_AXIS] == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def new_state_sharding(mesh: Mesh) -> NamedSharding | None:
    """The state's part in `out_shardings` of a step; None where its arrays were `split`."""
    return replicated(mesh) if mesh.shape[FSDP_AXIS] == 1 else None


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
            f"found {batch_size}; try --{field}={above}, or a number of devices that divides it"
        )


def steps_sharding(mesh: Mesh) -> NamedSharding:
    """Arrays [K, B, ...] of K steps: rows B split over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, ROW_AXES))


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


def place(tree: Any, mesh: Mesh) -> Any:
    """Puts a state, or a part of one, on the devices, large arrays split if they are to be."""

    def put(leaf: Any, placed: NamedSharding) -> jax.Array:
        lies_there = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if placed.is_fully_addressable or lies_there:
            return jax.device_put(leaf, placed)
        # Every process has all of it; JAX would send it to all of them, to compare.
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, placed, values.__getitem__)

    return jax.tree.map(put, tree, state_shardings(tree, mesh))


PIECE_BYTES = 2**26
"""Of an array that no process has whole, at a time."""


def is_held(leaf: Any) -> bool:
    """Whether this process has all of an array, wherever it is."""
    if not isinstance(leaf, jax.Array):
        return True
    return bool(leaf.is_fully_addressable or leaf.is_fully_replicated)


def pieces(leaf: Any) -> Iterator[np.ndarray]:
    """The values of an array one behind the other, for every process the same.

    What this process holds is one piece. Of another, whose processes have to ask together, so
    much comes at a time that no device needs room for all of it; its floats come as integers of
    the same bits.
    """
    if is_held(leaf):
        yield np.asarray(leaf)
        return
    count = max(1, leaf.shape[0] * PIECE_BYTES // leaf.nbytes)
    pick = jax.jit(_rows_as_integers, out_shardings=replicated(leaf.sharding.mesh))
    for first in range(0, leaf.shape[0], count):
        rows = np.arange(first, min(first + count, leaf.shape[0]))
        yield np.asarray(pick(leaf, rows))


def _rows_as_integers(leaf: jax.Array, rows: jax.Array) -> jax.Array:
    # Rows by number: every device looks up what it has, and only that is exchanged. Its part of
    # the sum is 0 elsewhere, which changes the sign of a float zero, but no integer.
    unsigned = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(leaf, unsigned).at[rows].get(mode="promise_in_bounds")
