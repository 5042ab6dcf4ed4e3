"""How pictures come to the devices: kept there, or put there for every chunk of steps.

A feed turns row numbers into the arguments of a program, and, inside the program, those
into the batch of one step. The batches are the same bit for bit whichever feed it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fer_jax.data.store import HostStore, Placement, Store
from fer_jax.runtime import sharding
from fer_jax.runtime.sharding import ROW_AXES

Batch = dict[str, jax.Array]


class Feed(Protocol):
    """Brings the pictures of rows to the devices.

    Attributes:
      source: arrays that every program is given whole; empty where there are none.
    """

    source: dict[str, jax.Array]

    def put(self, rows: np.ndarray) -> dict[str, jax.Array]:
        """The arguments for rows int64[K, B]: a tree whose leaves begin with K and B."""

    def pick(self, source: dict[str, jax.Array], item: dict[str, jax.Array]) -> Batch:
        """Traced: image uint8[B, S, S, 3] and label int32[B] of one step, split over the mesh.

        `item` is what `put` gave, for one of the K.
        """


class HostFeed:
    """Pictures of a store in main memory, put on the devices as they are needed."""

    def __init__(self, store: Store, mesh: Mesh) -> None:
        self.source: dict[str, jax.Array] = {}
        self._store, self._sharding = store, sharding.steps_sharding(mesh)

    def put(self, rows: np.ndarray) -> dict[str, jax.Array]:
        """Each device gets the pictures of its rows alone."""
        labels = self._store.labels
        return {
            "image": sharding.put_parts(rows, self._store.images, self._sharding),
            "label": sharding.put_parts(rows, lambda part: labels[part], self._sharding),
        }

    def pick(self, source: dict[str, jax.Array], item: dict[str, jax.Array]) -> Batch:
        """The item is the batch."""
        del source
        return item


class DeviceFeed:
    """Pictures in device memory: only row numbers travel.

    Args:
      store: whose pictures they are.
      mesh: of the devices.
      sharded: each device has its share of the pictures, instead of all.
    """

    def __init__(self, store: HostStore, mesh: Mesh, sharded: bool = False) -> None:
        self._mesh, self._sharded = mesh, sharded
        self._sharding = sharding.steps_sharding(mesh)
        images = np.asarray(store.all_images)
        placed = sharding.batch_sharding(mesh) if sharded else sharding.replicated(mesh)
        rows = np.arange(-(-len(images) // mesh.size) * mesh.size if sharded else len(images))

        def share(part: np.ndarray) -> np.ndarray:
            if part[-1] < len(images):
                return images[part[0] : part[-1] + 1]  # no copy of what may fill the memory
            # Past the last picture, a device with fewer has the first ones again: never asked for.
            return images[part % len(images)]

        self.source = {
            "image": sharding.put_parts(rows, share, placed),
            "label": jax.device_put(store.labels, sharding.replicated(mesh)),
        }

    def put(self, rows: np.ndarray) -> dict[str, jax.Array]:
        """The row numbers."""
        return {"row": sharding.put_parts(rows, lambda part: part.astype(np.int32), self._sharding)}

    def pick(self, source: dict[str, jax.Array], item: dict[str, jax.Array]) -> Batch:
        """Gathers them where they are."""
        images, rows = source["image"], item["row"]
        if self._sharded:
            split = PartitionSpec(ROW_AXES)
            gather = jax.shard_map(
                _gather_shares, mesh=self._mesh, in_specs=(split, split), out_specs=split
            )
            batch = gather(images, rows)
        else:
            batch = images.at[rows].get(mode="promise_in_bounds")
        label = source["label"].at[rows].get(mode="promise_in_bounds")
        placed = NamedSharding(self._mesh, PartitionSpec(ROW_AXES))
        return jax.lax.with_sharding_constraint({"image": batch, "label": label}, placed)


def _gather_shares(images: jax.Array, rows: jax.Array) -> jax.Array:
    """On each device: what of the batch's pictures it has, then its part of everybody's sum."""
    everybody = jax.lax.all_gather(rows, ROW_AXES, tiled=True)
    here = everybody - jax.lax.axis_index(ROW_AXES) * images.shape[0]
    inside = (here >= 0) & (here < images.shape[0])
    found = images.at[jnp.where(inside, here, 0)].get(mode="promise_in_bounds")
    masked = jnp.where(inside[:, None, None, None], found, jnp.uint8(0))
    return jax.lax.psum_scatter(masked, ROW_AXES, tiled=True)


def make_feed(store: Store, placement: Placement, mesh: Mesh) -> Feed:
    """The feed of a placement."""
    if placement.store == "device":
        assert isinstance(store, HostStore), "open_store gives the device's pictures whole"
        return DeviceFeed(store, mesh, placement.sharded)
    return HostFeed(store, mesh)


class Prefetch:
    """Has what the next chunks need ready before they are asked for, in order.

    What is ready is bounded: two chunks. A thread of its own waits for decoding and copies,
    so that the loop does not.

    Args:
      make: the arguments of the chunk from one step to another.
      end_after: the end of the chunk that begins at a step, None past the last one.
    """

    _AHEAD = 2

    def __init__(
        self, make: Callable[[int, int], Any], end_after: Callable[[int], int | None]
    ) -> None:
        self._make, self._end_after = make, end_after
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._ready: dict[int, Future[Any]] = {}
        self.waited = 0.0
        """Seconds that `take` has waited."""

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, step: int) -> Any:
        """The arguments of the chunk that begins at `step`; asks for those that follow."""
        began = time.perf_counter()
        self._ask(step)
        ready = self._ready.pop(step).result()
        self.waited += time.perf_counter() - began
        return ready

    def _ask(self, step: int) -> None:
        begin: int | None = step
        for _ in range(self._AHEAD + 1):
            end = None if begin is None else self._end_after(begin)
            if begin is None or end is None:
                return
            if begin not in self._ready:
                self._ready[begin] = self._pool.submit(self._make, begin, end)
            begin = end
