"""A trace of a few steps for TensorBoard's profile page and xprof, on demand."""

from __future__ import annotations

from pathlib import Path

import jax


class Profiler:
    """Traces so many steps, from the first chunk on that is compiled already.

    Args:
      folder: gets plugins/profile/<time>/*.xplane.pb, where TensorBoard looks for it.
      steps: to trace at least; chunks are traced whole. 0 traces nothing.
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
        """A chunk is about to be dispatched, which may have to be compiled first."""
        if not compiles and self._left > 0 and not self._running:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, steps: int, result: object) -> str | None:
        """So many steps were dispatched; says where the trace is when it is complete."""
        if not self._running:
            return None
        self._left -= steps
        if self._left > 0:
            return None
        jax.block_until_ready(result)  # what is dispatched but not run is not in the trace
        jax.profiler.stop_trace()
        self._running = False
        return f"profile written; look at it with: tensorboard --logdir {self._folder}"
