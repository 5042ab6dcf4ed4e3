"""Leaving on request: the first Ctrl-C or SIGTERM asks, a second Ctrl-C leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from fer_jax.errors import EXIT_INTERRUPTED


class StopRequest:
    """While entered, turns SIGINT and SIGTERM into a flag that is read between steps.

    Outside the main thread, where handlers cannot be set, it never asks to stop.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            # At once: no saving, no waiting for threads. What is on disk is whole.
            os._exit(EXIT_INTERRUPTED)
        self.signal = number
