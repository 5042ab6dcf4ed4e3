"""Stopping on request: the first signal asks, a second Ctrl-C exits immediately.

The signals are Ctrl-C, SIGTERM of a scheduler, and SIGHUP of a terminal that closes, unless nohup
has disabled it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from fer_jax.errors import EXIT_INTERRUPTED

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([] if _HANGUP is None else [_HANGUP]))


def _stop_signals() -> list[signal.Signals]:
    """All but SIGHUP under nohup; a background job, which ignores SIGINT, can still be sent it."""
    is_nohup = _HANGUP is not None and signal.getsignal(_HANGUP) == signal.SIG_IGN
    return [one for one in _STOP_SIGNALS if not (is_nohup and one == _HANGUP)]


class StopRequest:
    """Context that turns SIGINT, SIGTERM and SIGHUP into a flag, which is read between steps.

    Outside the main thread, where handlers cannot be set, it has no effect.

    Attributes:
      signal: number of the first signal received; None if none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._watcher: threading.Thread | None = None
        self._previous_wakeup = -1

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _stop_signals():
                self._previous[number] = signal.signal(number, self._handle)
            self._watch()
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._ends and self._watcher:
            signal.set_wakeup_fd(self._previous_wakeup)
            self._ends[1].close()
            self._watcher.join()
            self._ends[0].close()

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or number

    def _watch(self) -> None:
        """Starts a thread that reads signal numbers as they arrive.

        Python calls handlers in the main thread only, after it returns from compiling or from a
        step: seconds, for a user who has pressed Ctrl-C twice.
        """
        ours, theirs = self._ends = socket.socketpair()
        theirs.setblocking(False)
        self._previous_wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=_exit_on_second, args=(ours,), daemon=True)
        self._watcher.start()


def _exit_on_second(signals: socket.socket) -> None:
    stop_requested = False
    with contextlib.suppress(OSError):
        while numbers := signals.recv(16):
            for number in numbers:
                if stop_requested and number == signal.SIGINT:
                    # No saving, no waiting for threads; the files on disk are whole.
                    os._exit(EXIT_INTERRUPTED)
                stop_requested = stop_requested or number in _STOP_SIGNALS


@contextlib.contextmanager
def interrupt_on_terminate(*also: signal.Signals) -> Iterator[list[int]]:
    """Raises KeyboardInterrupt on SIGTERM and SIGHUP too; yields the list of those received.

    With SIGINT in `also`, the list has it even where a library swallowed the exception.
    Outside the main thread, where handlers cannot be set, it has no effect.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for name in _stop_signals():
            if name != signal.SIGINT or name in also:
                previous[name] = signal.signal(name, interrupt)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
