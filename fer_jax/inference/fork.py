"""Whether this process is a fork of one that used a network, whose threads it lacks."""

from __future__ import annotations

import os

from fer_jax.errors import UserError


class _Process:
    used = forked = False

    @classmethod
    def after(cls) -> None:
        cls.forked = cls.used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Process.after)


def check() -> None:
    """Records the use of a network.

    Raises:
      UserError: in a forked process.
    """
    if _Process.forked:
        raise UserError(
            "expected a process that was started, found one forked from a process that uses a "
            'network, where JAX would hang; use multiprocessing.get_context("spawn"), or threads: '
            "a model may be shared by threads"
        )
    _Process.used = True
