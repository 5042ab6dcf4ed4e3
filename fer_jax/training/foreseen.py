"""The program that a run will ask for first, read before it can ask.

Which program that is follows from the data, the network and much else, and is known when all
libraries are imported. But a command that is given again asks for what it asked for last time.
That is written down, and read in a thread meanwhile. Where the run then asks for another
program, this one is dropped.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import jax

from fer_jax.errors import COMPILER
from fer_jax.runtime import distributed
from fer_jax.training import kept


@dataclasses.dataclass
class _Foreseen:
    """What is known of the first program before it is asked for."""

    key: str
    name: str | None
    devices: Sequence[jax.Device]
    program: Future[jax.stages.Compiled | None]


_first: _Foreseen | None = None
"""Until the first program was asked for, in a process that began to foresee it."""


def begin(*parts: object) -> None:
    """Begins to read the program that was asked for first after the same `parts`.

    Args:
      *parts: of the command; their texts are what counts.
    """
    global _first
    if not distributed.is_alone() or (key := kept.key_of("first", *parts)) is None:
        return
    _first = _Foreseen(key, kept.named(key), jax.devices(), Future())
    if _first.name is not None:
        # Not a daemon: see `engine.programs`.
        threading.Thread(target=_read, args=(_first, _first.name), name=COMPILER).start()


def take(name: str, devices: Sequence[jax.Device]) -> jax.stages.Compiled | None:
    """The program of this name if it was foreseen, as soon as it is read; None if not."""
    if _first is None or name != _first.name or list(devices) != list(_first.devices):
        return None
    return _first.program.result()


def remember(name: str) -> None:
    """What was asked for first is this program: the next process foresees it."""
    global _first
    first, _first = _first, None
    if first is not None and name != first.name:
        kept.remember(first.key, name)


def _read(first: _Foreseen, name: str) -> None:
    first.program.set_result(kept.read(name, first.devices))
