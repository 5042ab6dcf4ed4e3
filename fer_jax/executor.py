"""Spreads pieces of work over the threads of this process, or over processes of this machine.

Results come in the order of the pieces, so that what is written of them does not depend on the
number of workers. Knows nothing of faces, networks and files.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, Generic, TypeVar

from fer_jax.errors import UserError

IN_FLIGHT = 4
"""Pieces per worker that are under way or wait for their turn."""

MAX_LOSSES = 3
"""Workers that may be killed while one piece is under way."""

# One BLAS thread, which NumPy's import reads; and no worker takes the GPU's memory from the others.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Work = Callable[[Piece], Result]

_local = threading.local()  # of a worker: how its work is made, and its work


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2


class Executor:
    """Workers of this machine.

    Args:
      workers: their number.
      processes: whether each is a process of its own with one thread for OpenCV and XLA. A script
        that uses processes needs the usual guard, `if __name__ == "__main__"`.

    `fer_jax.cluster.Cluster` has workers on other machines.
    """

    def __init__(self, workers: int, *, processes: bool = True) -> None:
        self.workers, self.processes = workers, processes

    def map(
        self, make: Callable[[], Work[Piece, Result]], pieces: Iterable[Piece]
    ) -> Generator[Result, None, None]:
        """Yields the result of each piece, in order; takes only a few pieces ahead.

        The pieces of a process that was killed are done again by new processes.

        Args:
          make: returns what turns a piece into its result; called once in each worker. For
            processes it must be picklable, as pieces and results must.
          pieces: consumed in the thread of the caller.

        Raises:
          UserError: processes end again and again, as for lack of memory.
        """
        owner, losses = threading.get_ident(), 0
        pending: collections.deque[_Pending[Piece, Result]] = collections.deque()
        pool, waiting = self._start(make), iter(pieces)
        try:
            while True:
                free = self.workers * IN_FLIGHT - len(pending)
                pending.extend(map(_Pending, itertools.islice(waiting, free)))
                if not pending:
                    return
                try:
                    with _environment() if self.processes else contextlib.nullcontext():
                        for one in pending:
                            one.submit(pool)
                    result = pending[0].result()
                except BrokenProcessPool:
                    losses += 1
                    if losses == MAX_LOSSES:
                        raise UserError(
                            f"expected {self.workers} worker processes to go on, found them killed "
                            f"{losses} times; if memory is short, use fewer workers; a script of "
                            'yours needs the guard `if __name__ == "__main__"`'
                        ) from None
                    pool.shutdown()
                    pool = self._start(make)
                    continue
                pending.popleft()
                losses = 0
                yield result
        finally:
            if pending and isinstance(pool, futures.ProcessPoolExecutor):
                # A piece may take a minute. Python 3.14 has `terminate_workers` for this.
                for process in list((pool._processes or {}).values()):  # noqa: SLF001
                    process.terminate()
            # An abandoned generator may be collected in a thread of the pool, which cannot wait
            # for itself.
            pool.shutdown(wait=threading.get_ident() == owner, cancel_futures=True)

    def _start(self, make: Callable[[], Any]) -> futures.Executor:
        if not self.processes:
            return futures.ThreadPoolExecutor(self.workers, "worker", _prepare, (make,))
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        return futures.ProcessPoolExecutor(self.workers, context, _prepare_process, (make,))


class _Pending(Generic[Piece, Result]):
    """A piece, with its future unless it has to be submitted again."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._future: futures.Future[Result] | None = None

    def submit(self, pool: futures.Executor) -> None:
        """Submits the piece, unless it is under way or done."""
        lost = self._future and self._future.done() and self._future.exception()
        if self._future is None or isinstance(lost, BrokenProcessPool):
            self._future = pool.submit(_work, self._piece)

    def result(self) -> Result:
        """Waits for the result."""
        assert self._future is not None  # was submitted
        return self._future.result()


def _prepare(make: Callable[[], Any]) -> None:
    """Runs first in each worker; an error of `make` is one of the first piece."""
    _local.make, _local.work = make, None


def one_thread() -> None:
    """Limits OpenCV and XLA to one thread, in a process that has no XLA client yet."""
    import cv2  # not needed by threads, and heavy

    os.environ["NPROC"] = "1"  # threads of XLA on CPU
    cv2.setNumThreads(1)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Gives processes that are started inside the environment of a worker."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _prepare_process(make: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _prepare(make)


def _end_with_parent() -> None:
    """A worker would wait for ever if its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(piece: Any) -> Any:
    if _local.work is None:
        _local.work = _local.make()
    return _local.work(piece)
