"""Where a split's pictures are while a network trains on them, and which place fits.

A store answers rows with pictures; it knows nothing of batches, epochs or devices. The
third place, device memory, is filled from a store and is the engine's matter.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from fer_jax.data.pixel_cache import load_cached
from fer_jax.data.records import Records, Split
from fer_jax.errors import UserError

STORES = ("auto", "device", "host", "stream")

DEVICE_SHARE = 0.4
"""Of a device's free memory that pictures may take; the rest is the network's."""

HOST_SHARE = 0.5
"""Of the free main memory that pictures may take."""


class Store(Protocol):
    """Pictures by row.

    Attributes:
      labels: int32[N].
    """

    labels: np.ndarray

    def images(self, rows: np.ndarray) -> np.ndarray:
        """uint8[*rows.shape, S, S, 3] for rows int64[...]; safe from many threads."""


class HostStore:
    """Pictures in main memory, or mapped into it from the cache."""

    def __init__(self, records: Records) -> None:
        self.labels = records.labels
        self._images = records.images

    @property
    def all_images(self) -> np.ndarray:
        """uint8[N, S, S, 3]."""
        return self._images

    def images(self, rows: np.ndarray) -> np.ndarray:
        """uint8[*rows.shape, S, S, 3]."""
        return np.asarray(self._images[rows])


class StreamStore:
    """Pictures decoded when they are asked for, by several threads.

    Args:
      split: whose pictures they are.
      threads: that decode; as many as cores by default.
    """

    def __init__(self, split: Split, threads: int | None = None) -> None:
        self.labels = split.labels
        self._read = split.read
        self._pool = ThreadPoolExecutor(threads or os.cpu_count(), "decode")

    def images(self, rows: np.ndarray) -> np.ndarray:
        """uint8[*rows.shape, S, S, 3]."""
        pictures = np.stack(list(self._pool.map(self._read, rows.reshape(-1).tolist())))
        return pictures.reshape(*rows.shape, *pictures.shape[1:])


@dataclasses.dataclass(frozen=True)
class Room:
    """Free memory in bytes, None where nobody can tell.

    Attributes:
      device: of each device beside the host's own memory; None on CPU devices too.
      devices: number of them.
      host: of the machine.
    """

    device: int | None
    devices: int
    host: int | None


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the pictures go.

    Attributes:
      store: "device", "host" or "stream".
      sharded: on the devices: each has its share, instead of all.
      reason: for people.
    """

    store: str
    sharded: bool
    reason: str


def place(wanted: str, nbytes: int, room: Room) -> Placement:
    """Decides where `nbytes` of decoded pictures go.

    Args:
      wanted: a name of `STORES`.
      nbytes: of the pictures of all splits that training uses.
      room: that there is.

    Raises:
      UserError: an unknown name, or more than the devices together can hold.
    """
    if wanted not in STORES:
        raise UserError(f"expected one of {', '.join(STORES)} for data.store, found {wanted!r}")
    size = f"{nbytes / 2**20:,.1f} MiB of pictures"
    most = None if room.device is None else int(room.device * DEVICE_SHARE)
    fits_each = most is None or nbytes <= most
    fits_all = most is None or nbytes <= most * room.devices
    if wanted == "device" and not fits_all:
        raise UserError(
            f"expected pictures that fit into {DEVICE_SHARE:.0%} of the devices' free memory, "
            f"found {size} for {room.devices} devices with {room.device or 0:,} bytes each; use "
            "--config.data.store=host, or auto"
        )
    if wanted == "device" or (wanted == "auto" and most is not None and fits_all):
        each = "each device has all" if fits_each else "each device has its share"
        return Placement("device", not fits_each, f"{size}: {each}")
    if wanted != "auto":
        return Placement(wanted, False, size)
    if room.host is not None and nbytes > room.host * HOST_SHARE:
        return Placement("stream", False, f"{size}, more than half of the free memory")
    return Placement("host", False, size)


def open_store(split: Split, store: str, say: Callable[[str], None] = print) -> Store:
    """The store of a split from which devices are fed: "device" is filled from "host"."""
    return StreamStore(split) if store == "stream" else HostStore(load_cached(split, say))


def free_host_bytes() -> int | None:
    """Main memory that can be had without swapping; None where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
