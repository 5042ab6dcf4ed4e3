"""Spreads pieces of work over the CPUs of a Ray cluster. Nothing else in the package knows of Ray.

Each piece is a task. Ray runs a task again whose worker or node was lost, gives tasks that wait to
a node that joins, and a task holds a CPU only while it runs. Actors would need code for all three,
and would keep their CPUs. Needs the extra `cluster`.
"""

from __future__ import annotations

import collections
import itertools
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterable
from typing import Any

from fer_jax import __version__
from fer_jax.errors import UserError
from fer_jax.executor import IN_FLIGHT, MAX_LOSSES, Executor, Piece, Result, Work, one_thread

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else older versions warn of a coming change
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # lines about lost workers, which Ray prints on stdout
}
"""Of Ray, which reads it when it is imported: nothing is sent home, and nothing printed."""

_PATIENCE = 10  # seconds

_kept: dict[bytes, Work[Any, Any]] = {}  # of a worker: its work, by how it was made


class Cluster(Executor):
    """The CPUs of a Ray cluster, each with one thread for OpenCV and XLA.

    Args:
      address: "auto" for the cluster that this machine is a node of, or its head's HOST:PORT.

    Raises:
      UserError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ModuleNotFoundError:
            raise UserError(
                "expected Ray with --cluster, found none; install it with: "
                "pip install 'fer-jax[cluster]'"
            ) from None
        if ray.is_initialized():
            return
        _check_address(address)
        before = signal.getsignal(signal.SIGTERM)  # Ray sets a handler that exits with code 15
        try:
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"expected a Ray cluster ({address}) with this machine as a node, found none "
                f"({_first_line(error)}); start one with: ray start --head --disable-usage-stats"
            ) from None
        finally:
            signal.signal(signal.SIGTERM, before)

    def map(
        self, make: Callable[[], Work[Piece, Result]], pieces: Iterable[Piece]
    ) -> Generator[Result, None, None]:
        """Yields the result of each piece, in order; see `Executor.map`.

        Workers start in the folder that this process is in, and find the same files there.

        Raises:
          UserError: a piece ends its worker again and again; or a node has another version of
            fer_jax, or not that folder.
        """
        import ray

        run = ray.remote(num_cpus=1, max_retries=MAX_LOSSES - 1)(_work)
        made = ray.put(pickle.dumps((__version__, os.getcwd(), sys.path, pickle.dumps(make))))
        pending: collections.deque[Any] = collections.deque()
        waiting = iter(pieces)
        # Pieces of an abandoned generator are not canceled: they are few, they end with this
        # process, and a cancellation while a worker is lost makes Ray 2.60 abort.
        while True:
            cpus = max(1, int(ray.cluster_resources().get("CPU", 0)))  # nodes come and go
            free = max(0, cpus * IN_FLIGHT - len(pending))
            # Bytes, so that arrays arrive as from any process: writable, and none holds on to the
            # memory that Ray shares.
            pending.extend(
                run.remote(made, pickle.dumps(piece)) for piece in itertools.islice(waiting, free)
            )
            if not pending:
                return
            yield _result(pending.popleft())


def _check_address(address: str) -> None:
    """Checks that somebody answers, which Ray would try for minutes.

    Raises:
      UserError: nobody does, or the address has another form.
    """
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or "/" in host or not port.isdecimal():
        raise UserError(f"expected --cluster auto or HOST:PORT, found {address}")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"expected the head of a Ray cluster at {address}, found: {error}; `ray start --head` "
            "prints its address"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _result(task: Any) -> Any:
    """Waits for the result of a task; an error of the work is raised as it was."""
    import ray

    try:
        return pickle.loads(ray.get(task))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise UserError(
            "expected workers of the cluster to go on, found a piece that lost its worker "
            f"{MAX_LOSSES} times ({_first_line(error)}); if memory is short, start the nodes with "
            "fewer --num-cpus"
        ) from None


def _work(made: bytes, piece: bytes) -> bytes:
    """Runs in a worker of Ray, which does the pieces of one job one after the other."""
    if made not in _kept:
        version, folder, places, make = pickle.loads(made)
        if version != __version__:
            raise UserError(
                f"expected fer_jax {version} on every node, found {__version__} on "
                f"{socket.gethostname()}; install the same version there"
            )
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserError(
                f"expected the folder {folder} on every node, found on {socket.gethostname()}: "
                f"{error.strerror}; start in a folder that all nodes share"
            ) from None
        sys.path += [place for place in places if place not in sys.path]
        os.environ["JAX_PLATFORMS"] = "cpu"  # else every worker of a node would take its GPU
        one_thread()
        _kept.clear()
        _kept[made] = pickle.loads(make)()
    return pickle.dumps(_kept[made](pickle.loads(piece)))
