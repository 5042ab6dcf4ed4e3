"""Placement of arrays: one mesh over all devices, which split every batch.

The state is replicated, unless `config.train.fsdp` is above 1: then groups of that many devices
shard one copy of it. A step gathers the parameters while it needs them and splits the gradients
again; optimizer moments and the moving average are never gathered.

There is no pmap, which is a wrapper over jit today: jit with named shardings compiles the same
program for one device and for many.
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
"""Rows of a batch are split over all devices, whether or not they shard the state."""

MIN_SPLIT_BYTES = 2**20
"""Smaller arrays of the state are replicated: gathering costs more than the memory saved."""


def all_devices() -> list[jax.Device]:
    """Returns the devices of all processes of the job.

    Raises:
      UserError: JAX has none of the platform that JAX_PLATFORMS names.
    """
    try:
        return list(jax.devices())
    except (RuntimeError, AssertionError) as error:  # AssertionError: of "cuda" without its plugin
        wanted = jax.config.values["jax_platforms"]
        found = str(error).strip().split("\n")[0] or "none"
        raise UserError(
            f"expected devices of the platform JAX_PLATFORMS={wanted}, found: {found}; unset "
            "JAX_PLATFORMS to use what is there, or install JAX for that platform, such as "
            "pip install 'fer-jax[cuda]'"
        ) from error


def data_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the device mesh [data, fsdp]; devices of a row shard one copy of the state.

    Args:
      fsdp: number of devices that shard a copy; 1 replicates it.
      devices: default: all devices of all processes.

    Raises:
      UserError: `fsdp` does not divide the number of devices.
    """
    count = len(devices if devices is not None else all_devices())
    if fsdp < 1 or count % fsdp:
        fit = [size for size in range(1, count + 1) if not count % size]
        raise UserError(
            f"expected config.train.fsdp to be a divisor of the {count} devices "
            f"({', '.join(map(str, fit))}), found {fsdp}; try --config.train.fsdp="
            f"{math.gcd(fsdp, count)}"
        )
    # Linen's Dropout needs axes with automatic sharding.
    types = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((count // fsdp, fsdp), ROW_AXES, axis_types=types, devices=devices)


def one_device_mesh() -> Mesh:
    """Returns a mesh of this process's first device, for work that is too small to split."""
    all_devices()  # reports a platform that is not there
    return data_mesh(devices=jax.local_devices()[:1])


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding with rows split over the devices."""
    return NamedSharding(mesh, PartitionSpec(ROW_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding with one copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(tree: Any, mesh: Mesh) -> Any:
    """Returns the sharding of each array of a state: large ones along their longest axis.

    Args:
      tree: arrays or shapes; a state or a part of one.
      mesh: of the devices.
    """
    parts = mesh.shape[FSDP_AXIS]

    def placed(leaf: Any) -> NamedSharding:
        axes = [axis for axis, length in enumerate(leaf.shape) if not length % parts]
        if parts == 1 or not axes or leaf.size * leaf.dtype.itemsize < MIN_SPLIT_BYTES:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, FSDP_AXIS))

    return jax.tree.map(placed, tree)


def split(tree: Any, mesh: Mesh | None) -> Any:
    """Traced: constrains a state, or a part of one, to its sharding between steps."""
    if mesh is None or mesh.shape[FSDP_AXIS] == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, state_shardings(tree, mesh))


def gathered(tree: Any, mesh: Mesh | None) -> Any:
    """Traced: constrains a part of a state to be whole on each device.

    Without it XLA would shard a layer's output like its parameters and move activations between
    devices.
    """
    if mesh is None or mesh.shape[FSDP_AXIS] == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def new_state_sharding(mesh: Mesh) -> NamedSharding | None:
    """Returns `out_shardings` for a step's state; None if `split` constrains its arrays."""
    return replicated(mesh) if mesh.shape[FSDP_AXIS] == 1 else None


def check_batch_size(field: str, batch_size: int, mesh: Mesh) -> None:
    """Checks that the devices can split a batch evenly.

    Raises:
      UserError: names `field` and the next size that can be split.
    """
    devices = mesh.size
    if batch_size < 1 or batch_size % devices:
        above = max(1, -(-batch_size // devices)) * devices
        raise UserError(
            f"expected {field} to be a positive multiple of the {devices} devices, "
            f"found {batch_size}; try --{field}={above}, or a number of devices that divides it"
        )


def steps_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays [K, B, ...] of K steps: B split over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, ROW_AXES))


def put_parts(
    rows: np.ndarray, values_of: Callable[[np.ndarray], np.ndarray], placed: NamedSharding
) -> jax.Array:
    """Makes the global array of the values of `rows`; each host makes the parts of its devices.

    Args:
      rows: int64[...], global row numbers.
      values_of: maps row numbers of a part to values [*part.shape, ...].
      placed: sharding of the axes of `rows`.
    """
    parts = [
        # An explicit transfer, which a transfer guard allows.
        jax.device_put(values_of(rows[index]), device)
        for device, index in placed.addressable_devices_indices_map(rows.shape).items()
    ]
    shape = rows.shape + parts[0].shape[rows.ndim :]
    return jax.make_array_from_single_device_arrays(shape, placed, parts)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a host batch on the devices, split by rows."""
    placed = batch_sharding(mesh)
    return {
        name: put_parts(np.arange(len(rows)), rows.__getitem__, placed)
        for name, rows in batch.items()
    }


def free_device_bytes(mesh: Mesh) -> int | None:
    """Returns the free bytes of this host's fullest device; None for CPUs and if unknown."""
    free = [
        stats["bytes_limit"] - stats["bytes_in_use"]
        for device in mesh.local_devices
        if device.platform != "cpu" and (stats := device.memory_stats())
    ]
    return min(free, default=None)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of each array of `tree` on each device."""
    return jax.device_put(tree, replicated(mesh))


def place(tree: Any, mesh: Mesh) -> Any:
    """Puts a state, or a part of one, on the devices with `state_shardings`."""

    def put(leaf: Any, placed: NamedSharding) -> jax.Array:
        is_global = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if placed.is_fully_addressable or is_global:
            return jax.device_put(leaf, placed)
        # Every process has all values; device_put would transfer them to compare.
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, placed, values.__getitem__)

    return jax.tree.map(put, tree, state_shardings(tree, mesh))


PIECE_BYTES = 2**26
"""Size of the pieces in which an array that no process holds is read."""


def is_held(leaf: Any) -> bool:
    """Whether this process holds all of an array, on whichever device."""
    if not isinstance(leaf, jax.Array):
        return True
    return bool(leaf.is_fully_addressable or leaf.is_fully_replicated)


def pieces(leaf: Any) -> Iterator[np.ndarray]:
    """Yields the values of an array in order, the same in every process.

    An array that this process holds is one piece. Others are gathered in pieces, so that no
    device needs memory for all of it; their floats are returned as integers of the same bits.
    All processes must call together.
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
    # Each device contributes the rows it holds to a sum, with 0 for the others: exact for
    # integers, while adding 0 would change the sign of a float's negative zero.
    unsigned = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(leaf, unsigned).at[rows].get(mode="promise_in_bounds")
