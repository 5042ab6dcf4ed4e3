"""Memory in pages of 2 MiB, for programs that take and give back gigabytes at every step.

XLA asks for the temporary memory of a step anew each time, and glibc asks the kernel: with
pages of 4 KiB a step of `custom_cnn` begins with 290,000 page faults, a third of its processor
time. Reading a compiled program makes millions of small objects in a thread, whose memory glibc
lets grow by 128 KiB at a time, in small pages. glibc is told to do otherwise by a variable of
the environment when a process begins; so a process begins again, once, before it has imported
much. Figures: benchmarks/RESULTS.md.
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
    "glibc.malloc.top_pad=16777216",  # memory grows by 16 MiB
    # What these two become by themselves in a process that takes and gives back much; naming
    # top_pad would keep them at 128 KiB.
    "glibc.malloc.mmap_threshold=33554432",
    "glibc.malloc.trim_threshold=67108864",
    "glibc.malloc.mxfast=0",  # no lists that are cleared at each large request
)
_OLDEST = (2, 35)  # the first glibc with the tunable
# Where this is "always", nobody has to ask; where it is "never", nobody is given any.
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Replaces this process by itself with large pages, where that helps and is not yet so.

    To be called before anything is written or begun. A user's own setting of the tunable stays.
    """
    environment = wanted(os.environ)
    if environment is None or not _useful() or not sys.orig_argv:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def wanted(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment of a process with large pages; None if `environment` already decides it."""
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
