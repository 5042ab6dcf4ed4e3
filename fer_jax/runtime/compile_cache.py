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

from fer_jax.errors import UserError
from fer_jax.files import cache_folder

_FOLDER, _ENABLED = "jax_compilation_cache_dir", "jax_enable_compilation_cache"
_OFF = ("0", "false", "n", "no", "off", "f")  # as JAX reads its variables

MAX_BYTES = 2 * 2**30
"""The oldest programs are deleted when the folder is larger."""


def enable() -> Path | None:
    """Enables the cache in the folder `programs` of fer_jax's cache; does not import JAX.

    Returns:
      The folder; None if it cannot be created or the environment decides otherwise.
    """
    if _is_decided():
        return None
    try:
        folder = cache_folder() / "programs" / machine()
        folder.mkdir(parents=True, exist_ok=True)
        trim(folder, MAX_BYTES)
    except (OSError, UserError):
        return None  # no home, or one that is not writable: slower, not wrong
    # Initialization compiles many programs, each in an instant.
    settings = {_FOLDER: str(folder), "jax_persistent_cache_min_compile_time_secs": 0.0}
    if "jax" in sys.modules:
        for name, value in settings.items():
            sys.modules["jax"].config.update(name, value)
    else:  # read when it is imported, if it is
        os.environ.update({name.upper(): str(value) for name, value in settings.items()})
    return folder


def _is_decided() -> bool:
    """Whether the environment or the program has set the cache up."""
    if "jax" in sys.modules:
        found = sys.modules["jax"].config.values
        return bool(found[_FOLDER]) or not found[_ENABLED]
    is_off = os.environ.get(_ENABLED.upper(), "1").lower() in _OFF
    return bool(os.environ.get(_FOLDER.upper())) or is_off


def machine() -> str:
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


def trim(folder: Path, max_bytes: int) -> None:
    """Deletes the oldest files until the rest fits into `max_bytes`."""
    total = 0
    newest_first = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in newest_first:
        total += file.stat().st_size
        if total > max_bytes:
            file.unlink(missing_ok=True)
