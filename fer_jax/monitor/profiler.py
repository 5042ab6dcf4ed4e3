"""Optional profiler trace of a few training steps, for TensorBoard's profile page and xprof."""

from __future__ import annotations

from pathlib import Path

import jax


class Profiler:
    """Traces steps, starting at the first chunk that is already compiled.

    Args:
      folder: TensorBoard folder; the trace is plugins/profile/<time>/*.xplane.pb in it.
      steps: minimum number of steps to trace, rounded up to whole chunks; 0 disables.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._folder, self._left = folder, steps
        self._running = False

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *error: object) -> None:
        if self._running:
            jax.profiler.stop_trace()

    def before(self, compiles: bool) -> None:
        """Starts the trace before a chunk is dispatched, unless the chunk has to be compiled."""
        if not compiles and self._left > 0 and not self._running:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, steps: int, result: object) -> str | None:
        """Counts dispatched steps; returns a message with the folder when the trace is complete."""
        if not self._running:
            return None
        self._left -= steps
        if self._left > 0:
            return None
        jax.block_until_ready(result)  # the trace contains only what has run
        jax.profiler.stop_trace()
        self._running = False
        return f"profile written; view it with: tensorboard --logdir {self._folder}"
