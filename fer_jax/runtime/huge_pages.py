"""Huge pages (2 MiB) for processes that allocate and free gigabytes at every step.

XLA allocates the temporary memory of each step anew, and glibc gets it from the kernel: with
pages of 4 KiB a step of `custom_cnn` starts with 290,000 page faults, a third of its CPU time.
glibc reads its settings from an environment variable when a process starts; so the process
restarts itself once, before it has imported much. Measured in results/speed.md.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"
_SETTINGS = (
    f"{_TUNABLE}=1",
    "glibc.malloc.top_pad=16777216",  # the heap grows by 16 MiB at a time
    # The values that glibc adapts to in a process that allocates much; setting top_pad would
    # otherwise fix them at 128 KiB.
    "glibc.malloc.mmap_threshold=33554432",
    "glibc.malloc.trim_threshold=67108864",
    "glibc.malloc.mxfast=0",  # no fast bins, which are cleared at each large request
)
_OLDEST = (2, 35)  # first glibc with the tunable
# With "always" no request is needed; with "never" none is granted.
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Restarts this process with huge pages, if they help and are not enabled yet.

    Must be called before anything is written or started. A user's setting of the tunable is kept.
    """
    environment = wanted(os.environ)
    if environment is None or not _useful() or not sys.orig_argv:
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the caller
            stream.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def wanted(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Returns the environment for huge pages; None if `environment` already sets the tunable."""
    tunables = environment.get(VARIABLE, "")
    if _TUNABLE in tunables:
        return None
    return {**environment, VARIABLE: ":".join(filter(None, [*_SETTINGS, tunables]))}


def _useful() -> bool:
    library, version = platform.libc_ver()
    if sys.platform != "linux" or library != "glibc":
        return False
    if tuple(map(int, version.split(".")[:2])) < _OLDEST:
        return False
    try:
        return "[madvise]" in _KERNEL.read_text()
    except OSError:
        return False
