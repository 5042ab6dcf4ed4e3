"""Whether an operation takes XLA's own form, or the one that is faster on CPUs.

On GPUs and TPUs everything takes XLA's own form.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_PLAIN = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Inside, operations take XLA's own form wherever the network runs.

    For programs that are exported: they take no gradient, and run on other devices.
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def is_plain() -> bool:
    """Whether `plain` is entered."""
    return _PLAIN.get()


def for_cpu() -> bool:
    """Whether forms for CPUs are wanted."""
    return jax.default_backend() == "cpu" and not is_plain()
