"""Predicts in a process that lacks what Windows and macOS lack; run by test_other_systems.

    python -m tests.inference.without_posix PHOTO OUT

Prints the label of the photo's face, then what `fer-jax predict` prints.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - Linux's own library expects what is removed below
import os
import random  # noqa: F401 - as above
import signal
import sys

MISSING = ("fcntl", "grp", "pwd", "resource", "termios")


class Absent:
    """Finds none of `MISSING`, and nothing else."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def remove_posix():
    """Removes modules and attributes, and refuses to open folders, as Windows does."""
    sys.meta_path.insert(0, Absent)
    for name in MISSING:
        sys.modules.pop(name, None)
    for place, name in (
        (os, "register_at_fork"), (os, "sched_getaffinity"), (os, "getuid"), (os, "statvfs"),
        (signal, "SIGHUP"), (signal, "SIGALRM"), (signal, "SIGUSR1"), (signal, "pthread_kill"),
    ):  # fmt: skip
        if hasattr(place, name):
            delattr(place, name)
    open_file = os.open

    def open_no_folder(path, *arguments, **keywords):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        return open_file(path, *arguments, **keywords)

    os.open = open_no_folder


if __name__ == "__main__":
    remove_posix()
    photo, out = sys.argv[1:]

    import fer_jax

    print(fer_jax.load("ferplus").predict(photo)[0].faces[0].label)

    from fer_jax.cli import app

    app.main(["predict", photo, "--out", out])
