"""Compiled programs kept on disk, so that a second start compiles nothing.

Only the verbs' command lines switch this on; a program that imports fer_jax decides for
itself. JAX's own variables go first: `JAX_COMPILATION_CACHE_DIR` names another folder,
`JAX_ENABLE_COMPILATION_CACHE=0` switches it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

from fer_jax.files import cache_folder

MOST_BYTES = 2 * 2**30
"""The oldest programs go when the folder holds more."""

folder: Path | None = None
"""Where they are; None until `enable` has chosen it."""


def enable() -> Path | None:
    """Keeps what is compiled from now on in the folder `programs` of the cache.

    Returns:
      The folder, or None if it cannot be made or the environment decides otherwise.
    """
    global folder
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
        return None
    chosen = cache_folder() / "programs" / _machine()
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        _trim(chosen, MOST_BYTES)
    except OSError:
        return None  # a home that is not writable: slower, not wrong
    folder = chosen
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Making a network's first values takes hundreds of programs, each compiled in an instant.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def _machine() -> str:
    """What a program for a CPU depends on and JAX's own key leaves out.

    Homes are shared between machines: a program for instructions that this one has not would
    end the process, and one for another number of cores would give other bits.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    features = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}-{cores}"


def _trim(folder: Path, most_bytes: int) -> None:
    """Deletes the oldest files until the rest is not larger than `most_bytes`."""
    kept = 0
    newest_first = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in newest_first:
        kept += file.stat().st_size
        if kept > most_bytes:
            file.unlink(missing_ok=True)
