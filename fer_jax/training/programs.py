"""Programs that are made ready beside other work.

Which program the first step needs is known while initial values are still to be drawn or a
checkpoint to be read. A thread finds it on disk meanwhile, or traces and compiles it: JAX's
tracing shares Python's lock with that work, reading and compiling programs do not.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import jax

from fer_jax.errors import COMPILER
from fer_jax.training import foreseen, kept


class Program:
    """A jitted function that can be made ready for its first call.

    Args:
      function: to compile.
      devices: that it runs on.
      options: of the compiler.
      **settings: of `jax.jit` besides.

    Attributes:
      ready: its compiled form, for the arguments it was prepared for; None if it was not.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        devices: Sequence[jax.Device],
        options: Mapping[str, str],
        **settings: Any,
    ) -> None:
        self._jitted = jax.jit(function, compiler_options=dict(options), **settings)
        self._devices, self._options = devices, options
        self.ready: Future[jax.stages.Compiled] | None = None

    def prepare(self, arguments: Callable[[], Sequence[Any]], key: str | None) -> None:
        """Begins to make it ready, in a thread; an error in it is raised by the first call.

        Args:
          arguments: gives arrays or their forms; called in that thread, and only if the program
            has to be traced.
          key: under which the compiled program is kept; None keeps it nowhere.
        """
        self.ready = Future()
        work = (self.ready, arguments, key)
        # Not a daemon: one that is in XLA's code when Python ends brings the process down.
        threading.Thread(target=self._make, args=work, name=COMPILER).start()

    def __call__(self, *arguments: Any) -> Any:
        """Calls it, when it is ready."""
        if self.ready is None:
            return self._jitted(*arguments)
        compiled = self.ready.result()
        try:
            return compiled(*arguments)
        except (TypeError, ValueError):
            # Made for other shapes or other places of the arguments; nothing has run, and none
            # of them was given away.
            return self._jitted(*arguments)

    def _make(
        self,
        ready: Future[jax.stages.Compiled],
        arguments: Callable[[], Sequence[Any]],
        key: str | None,
    ) -> None:
        try:
            name = kept.named(key) if key else None
            compiled = self._read(name) if name else None
            if name and compiled is not None:
                ready.set_result(compiled)
                foreseen.remember(name)
                return
            with _no_collection():
                lowered = self._jitted.lower(*arguments())
            name = kept.name_of(lowered, self._options) if key else None
            compiled = self._read(name) if name else None
            with kept.reads_of_jax() as reads:
                made = compiled or lowered.compile()
        except BaseException as error:  # noqa: BLE001 - raised where the program is wanted
            ready.set_exception(error)
            return
        ready.set_result(made)
        if key and name:
            if compiled is None and not reads:
                kept.keep(name, made)
            kept.remember(key, name)
            foreseen.remember(name)

    def _read(self, name: str) -> jax.stages.Compiled | None:
        return foreseen.take(name, self._devices) or kept.read(name, self._devices)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Python collects no garbage within: tracing makes much that is not, and it takes a while."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
