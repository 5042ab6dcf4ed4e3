"""Where a split's images are stored during training, and which store fits.

A store returns the images of given rows; it knows nothing of batches, epochs or devices. The
third place, device memory, is filled from a store by `feed`.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from fer_jax.data.records import Records, Split, decode_all
from fer_jax.errors import UserError

DEVICE_SHARE = 0.4
"""Share of a device's free memory that images may use; the network needs the rest."""

HOST_SHARE = 0.5
"""Share of the free main memory that images may use."""


class Store(Protocol):
    """Images by row.

    Attributes:
      labels: int32[N], or float32[N, C] if training fits distributions.
      extras: float32[N, E], labels of further heads; None if there are none.
    """

    labels: np.ndarray
    extras: np.ndarray | None

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Returns uint8[*rows.shape, S, S, 3] for rows int64[...]; thread-safe."""


class HostStore:
    """Decoded images in main memory."""

    def __init__(self, records: Records) -> None:
        self.labels = records.labels if records.targets is None else records.targets
        self.extras = records.extras
        self._images = records.images

    @property
    def all_images(self) -> np.ndarray:
        """uint8[N, S, S, 3]."""
        return self._images

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Returns uint8[*rows.shape, S, S, 3]."""
        return np.asarray(self._images[rows])


class StreamStore:
    """Images that are decoded on request, by several threads.

    Args:
      split: the records.
      threads: number of decoding threads; default: number of cores.
    """

    def __init__(self, split: Split, threads: int | None = None) -> None:
        self.labels = split.labels if split.targets is None else split.targets
        self.extras = split.extras
        self._read = split.read
        self._pool = ThreadPoolExecutor(threads or os.cpu_count(), "decode")

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Returns uint8[*rows.shape, S, S, 3]."""
        images = np.stack(list(self._pool.map(self._read, rows.reshape(-1).tolist())))
        return images.reshape(*rows.shape, *images.shape[1:])


@dataclasses.dataclass(frozen=True)
class FreeMemory:
    """Free memory in bytes; None if unknown.

    Attributes:
      device: of each accelerator; None for CPU devices too.
      devices: number of devices.
      host: main memory of the machine.
    """

    device: int | None
    devices: int
    host: int | None


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the images are stored.

    Attributes:
      store: "device", "host" or "stream".
      sharded: in device memory: each device holds its share, not all.
      reason: for people.
    """

    store: str
    sharded: bool
    reason: str


def choose_placement(requested: str, nbytes: int, free: FreeMemory) -> Placement:
    """Decides where decoded images are stored.

    Args:
      requested: one of `settings.STORES`.
      nbytes: size of the images of all splits that training uses.
      free: memory.

    Raises:
      UserError: "device" is requested and the devices together cannot hold them.
    """
    size = f"{nbytes / 2**20:,.1f} MiB"
    limit = None if free.device is None else int(free.device * DEVICE_SHARE)
    fits_each = limit is None or nbytes <= limit
    fits_all = limit is None or nbytes <= limit * free.devices
    if requested == "device" and not fits_all:
        raise UserError(
            f"expected images that fit into {DEVICE_SHARE:.0%} of the devices' free memory, "
            f"found {size} for {free.devices} devices with {free.device or 0:,} bytes each; use "
            "--config.data.store=host, or auto"
        )
    if requested == "device" or (requested == "auto" and limit is not None and fits_all):
        each = "all on each device" if fits_each else "a share on each device"
        return Placement("device", not fits_each, f"{size}, {each}")
    if requested != "auto":
        return Placement(requested, False, size)
    if free.host is not None and nbytes > free.host * HOST_SHARE:
        return Placement("stream", False, f"{size}, more than {HOST_SHARE:.0%} of free memory")
    return Placement("host", False, size)


def open_store(split: Split, store: str) -> Store:
    """Returns the store of a split; for "device", the host store that fills device memory."""
    return StreamStore(split) if store == "stream" else HostStore(decode_all(split))


def free_host_bytes() -> int | None:
    """Returns the main memory available without swapping; None if the system does not report it."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
