"""How images reach the devices: stored there, or transferred for every chunk of steps.

A feed turns row numbers into arguments of a program and, inside the program, those into the batch
of one step. Batches are bit-identical with any feed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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
    """Brings the images of rows to the devices.

    Attributes:
      source: arrays that every program gets whole; may be empty.
    """

    source: dict[str, jax.Array]

    def put(self, rows: np.ndarray) -> dict[str, jax.Array]:
        """Returns the arguments for rows int64[K, B]: a tree of arrays [K, B, ...]."""

    def pick(self, source: dict[str, jax.Array], item: dict[str, jax.Array]) -> Batch:
        """Traced: returns image uint8[B, S, S, 3] and label of one step, split by rows.

        The label is int32[B], or float32[B, C] where training fits distributions. Labels of
        further heads are in extras, float32[B, E]. `item` is one of the K slices of what `put`
        returned.
        """


class HostFeed:
    """Images in main memory, transferred to the devices when needed."""

    def __init__(self, store: Store, mesh: Mesh) -> None:
        self.source: dict[str, jax.Array] = {}
        self._store, self._sharding = store, sharding.steps_sharding(mesh)

    def put(self, rows: np.ndarray) -> dict[str, jax.Array]:
        """Puts on each device the images of its rows."""
        images = sharding.put_parts(rows, self._store.images, self._sharding)
        return {"image": images} | {
            name: sharding.put_parts(rows, values.__getitem__, self._sharding)
            for name, values in _labels(self._store).items()
        }

    def pick(self, source: dict[str, jax.Array], item: dict[str, jax.Array]) -> Batch:
        """Returns the item, which is the batch."""
        del source
        return item


class DeviceFeed:
    """Images in device memory: only row numbers are transferred.

    Args:
      store: the images.
      mesh: of the devices.
      sharded: each device holds its share of the images, instead of all.
    """

    def __init__(self, store: HostStore, mesh: Mesh, sharded: bool = False) -> None:
        self._mesh, self._sharded = mesh, sharded
        self._sharding = sharding.steps_sharding(mesh)
        images = np.asarray(store.all_images)
        placed = sharding.batch_sharding(mesh) if sharded else sharding.replicated(mesh)
        rows = np.arange(-(-len(images) // mesh.size) * mesh.size if sharded else len(images))

        def share(part: np.ndarray) -> np.ndarray:
            if part[-1] < len(images):
                return images[part[0] : part[-1] + 1]  # a view: a copy might not fit
            # Padding to equal shares; these rows are never read.
            return images[part % len(images)]

        self.source = {
            "image": sharding.put_parts(rows, share, placed),
            **jax.device_put(_labels(store), sharding.replicated(mesh)),
        }

    def put(self, rows: np.ndarray) -> dict[str, jax.Array]:
        """Puts the row numbers."""
        return {"row": sharding.put_parts(rows, lambda part: part.astype(np.int32), self._sharding)}

    def pick(self, source: dict[str, jax.Array], item: dict[str, jax.Array]) -> Batch:
        """Gathers the images on the devices."""
        images, rows = source["image"], item["row"]
        labels = {name: values for name, values in source.items() if name != "image"}
        if self._sharded:
            split = PartitionSpec(ROW_AXES)
            gather = jax.shard_map(
                _gather_shares, mesh=self._mesh, in_specs=(split, split), out_specs=split
            )
            batch = gather(images, rows)
        else:
            batch = images.at[rows].get(mode="promise_in_bounds")
        picked = {
            name: values.at[rows].get(mode="promise_in_bounds") for name, values in labels.items()
        }
        placed = NamedSharding(self._mesh, PartitionSpec(ROW_AXES))
        return jax.lax.with_sharding_constraint({"image": batch, **picked}, placed)


def _labels(store: Store) -> dict[str, np.ndarray]:
    """Returns the arrays of labels, by their name in a batch."""
    extras = {} if store.extras is None else {"extras": store.extras}
    return {"label": store.labels, **extras}


def _gather_shares(images: jax.Array, rows: jax.Array) -> jax.Array:
    """Per device: sums the rows that each device holds, and keeps its part of the batch."""
    all_rows = jax.lax.all_gather(rows, ROW_AXES, tiled=True)
    local = all_rows - jax.lax.axis_index(ROW_AXES) * images.shape[0]
    inside = (local >= 0) & (local < images.shape[0])
    found = images.at[jnp.where(inside, local, 0)].get(mode="promise_in_bounds")
    masked = jnp.where(inside[:, None, None, None], found, jnp.uint8(0))
    return jax.lax.psum_scatter(masked, ROW_AXES, tiled=True)


def make_feed(store: Store, placement: Placement, mesh: Mesh) -> Feed:
    """Returns the feed for a placement."""
    if placement.store == "device":
        assert isinstance(store, HostStore), "device memory is filled from a host store"
        return DeviceFeed(store, mesh, placement.sharded)
    return HostFeed(store, mesh)


class Prefetch:
    """Prepares the arguments of the next two chunks in a background thread.

    Args:
      make: returns the arguments of the chunk from one step to another.
      end_after: returns the end of the chunk that starts at a step; None past the last one.
    """

    _AHEAD = 2

    def __init__(
        self, make: Callable[[int, int], Any], end_after: Callable[[int], int | None]
    ) -> None:
        self._make, self._end_after = make, end_after
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._ready: dict[int, Future[Any]] = {}
        self.waited = 0.0
        """Seconds spent waiting in `take`."""

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, step: int) -> Any:
        """Returns the arguments of the chunk that starts at `step`, and requests the next ones."""
        began = time.perf_counter()
        self._request(step)
        ready = self._ready.pop(step).result()
        self.waited += time.perf_counter() - began
        return ready

    def _request(self, step: int) -> None:
        begin: int | None = step
        for _ in range(self._AHEAD + 1):
            end = None if begin is None else self._end_after(begin)
            if begin is None or end is None:
                return
            if begin not in self._ready:
                self._ready[begin] = self._pool.submit(self._make, begin, end)
            begin = end
