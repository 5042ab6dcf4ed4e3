"""Switch between XLA's own operations and the equivalent ones that are faster on CPU.

The faster ones are used on CPU only; GPUs and TPUs always run XLA's own.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_DISABLED = contextvars.ContextVar("cpu_ops_disabled", default=False)


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Traces with XLA's own operations, whatever the backend.

    For exported programs, which need no gradient and run on other devices.
    """
    token = _DISABLED.set(True)
    try:
        yield
    finally:
        _DISABLED.reset(token)


def is_disabled() -> bool:
    """Whether the caller is inside `disabled`."""
    return _DISABLED.get()


def enabled() -> bool:
    """Whether to use the operations that are faster on CPU."""
    return jax.default_backend() == "cpu" and not is_disabled()
