"""JAX's persistent compilation cache, so that a second start compiles nothing.

Only commands enable it; a program that imports fer_jax decides for itself. JAX's variables take
precedence: `JAX_COMPILATION_CACHE_DIR` names another folder, `JAX_ENABLE_COMPILATION_CACHE=0`
disables it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

from fer_jax.errors import UserError
from fer_jax.files import cache_folder

MAX_BYTES = 2 * 2**30
"""The oldest programs are deleted when the folder is larger."""


def enable() -> Path | None:
    """Enables the cache in the folder `programs` of fer_jax's cache.

    Returns:
      The folder; None if it cannot be created or the environment decides otherwise.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
        return None
    try:
        folder = cache_folder() / "programs" / _machine()
        folder.mkdir(parents=True, exist_ok=True)
        _trim(folder, MAX_BYTES)
    except (OSError, UserError):
        return None  # no home, or one that is not writable: slower, not wrong
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Initialization compiles many programs, each in an instant.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def _machine() -> str:
    """Returns what a CPU program depends on and JAX's key leaves out.

    Machines share homes: a program with instructions that a machine lacks would kill the process,
    and one for another number of cores would compute other bits.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    features = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}-{cores}"


def _trim(folder: Path, max_bytes: int) -> None:
    """Deletes the oldest files until the rest fits into `max_bytes`."""
    total = 0
    newest_first = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in newest_first:
        total += file.stat().st_size
        if total > max_bytes:
            file.unlink(missing_ok=True)
