"""Decoded pictures kept on disk, so that a second start decodes nothing.

One memory-mapped file per split and framing, named by what its pixels depend on. Nothing
here is needed: what is deleted is decoded again, and where nothing can be written the
pictures stay in memory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from fer_jax import files
from fer_jax.data.records import Records, Split, decode_all

MOST_BYTES = 20 * 2**30
"""The files used longest ago go when the folder holds more."""

_FORMAT = 1
_BLOCK = 256  # pictures that are decoded before they are written
_STALE_SECONDS = 24 * 3600.0  # after which a file half written belongs to nobody

Say = Callable[[str], None]


def load_cached(split: Split, say: Say = print, most_bytes: int = MOST_BYTES) -> Records:
    """All pictures of a split, `images` mapped into memory from the cache.

    Args:
      split: whose pictures are decoded where the cache has them not.
      say: gets a line if they cannot be kept.
      most_bytes: that the cache may hold.

    Raises:
      UserError: a picture that cannot be decoded.
    """
    folder = files.cache_folder() / "pixels"
    path = folder / f"{_key(split)}.npy"
    images = _open(path, split)
    if images is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            images = _make(path, split, most_bytes)
        except OSError as error:
            say(
                f"the decoded pictures are not kept in {folder}: {error.strerror or error}; "
                "every start decodes them again"
            )
            return decode_all(split)
    return Records(images, split.labels, split.ids, split.groups, split.label_names, split.digest)


def _key(split: Split) -> str:
    # Another OpenCV may decode or resize to other pixels.
    parts = f"{_FORMAT} {cv2.__version__} {split.digest}"
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def _open(path: Path, split: Split) -> np.ndarray | None:
    """The stored pictures; None if there are none of the right number or the file is cut."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        images = np.load(path, mmap_mode="r")
        if len(images) == len(split) and images.dtype == np.uint8:
            os.utime(path)  # used now: the last to go
            return images
    return None


def _make(path: Path, split: Split, most_bytes: int) -> np.ndarray:
    """Decodes into a file beside `path`, syncs it and renames it into place."""
    first = split.read(0)
    shape = (len(split), *first.shape)
    _make_room(path.parent, first.nbytes * len(split), most_bytes)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for picture in _decoded(split):
                file.write(picture)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


def _decoded(split: Split) -> Iterator[np.ndarray]:
    """Every picture, contiguous, in the order of the rows."""
    with ThreadPoolExecutor() as pool:  # OpenCV releases the interpreter lock
        for first in range(0, len(split), _BLOCK):
            rows = range(first, min(first + _BLOCK, len(split)))
            yield from map(np.ascontiguousarray, pool.map(split.read, rows))


def _make_room(folder: Path, needed: int, most_bytes: int) -> None:
    """Deletes others where that helps; raises OSError where there is not enough room."""
    size = f"{needed / 2**20:,.0f} MiB"
    if needed > most_bytes:
        raise OSError(errno.EFBIG, f"{size} are more than the cache may hold")
    _trim(folder, most_bytes - needed)
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < needed:
        raise OSError(errno.ENOSPC, f"the disk has no room for {size}")


def _trim(folder: Path, most_bytes: int) -> None:
    """Deletes what was used longest ago until the rest is not larger than `most_bytes`."""
    kept, now = 0, time.time()
    found = [(file.stat().st_mtime, file) for file in folder.iterdir()]
    for used, file in sorted(found, reverse=True):
        if file.suffix == ".tmp":
            if now - used > _STALE_SECONDS:  # its process was killed
                file.unlink(missing_ok=True)
            continue
        kept += file.stat().st_size
        if kept > most_bytes:  # a process that has it mapped keeps it until it ends
            file.unlink(missing_ok=True)
