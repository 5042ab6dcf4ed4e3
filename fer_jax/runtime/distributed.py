"""Several processes as one job: joining it, agreeing on decisions, noticing a lost process.

A job is described by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, which the
scripts in launch/ set; else by SLURM, Open MPI or a TPU pod, which JAX reads. Without any of
these there is one process, no service and no open port. Importing this module starts nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import dataclasses
import ipaddress
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fer_jax import buckets, working_copy
from fer_jax.errors import EXIT_PEER_LOST, PeerLostError, UserError, end_at_once

T = TypeVar("T")

ADDRESS = "JAX_COORDINATOR_ADDRESS"
COUNT = "JAX_NUM_PROCESSES"
NUMBER = "JAX_PROCESS_ID"
VARIABLES = (ADDRESS, COUNT, NUMBER)

JOIN_SECONDS = 300
"""How long processes wait for each other at the start; a cold node takes minutes."""

LOST_SECONDS = 30
"""A process without heartbeat for this long is considered lost, and the others end."""

_HEARTBEAT_SECONDS = 2.0
_JAX_REPORTS_SECONDS = 0.5  # JAX may be printing about the same loss


@dataclasses.dataclass(frozen=True)
class Job:
    """The job as the environment describes it.

    Attributes:
      address: host:port of the coordinator; None if JAX determines it.
      processes: number of processes; None if JAX determines it.
      number: of this process, from 0; None if JAX determines it.
      source: where the description comes from, for messages.
    """

    address: str | None
    processes: int | None
    number: int | None
    source: str

    @property
    def bind_address(self) -> str | None:
        """Address that the coordinator listens at: loopback only if all are on one machine."""
        if self.address is None or not _is_local(self.address):
            return None
        return f"127.0.0.1:{self.address.rpartition(':')[2]}"


def find_job(environment: Mapping[str, str]) -> Job | None:
    """Returns the job that this process belongs to; None for a single process.

    Raises:
      UserError: only some of the variables are set, or their values are not valid.
    """
    variables = {name: environment[name] for name in VARIABLES if environment.get(name)}
    if variables:
        return _from_variables(variables)
    for scheduler, describes in (
        ("SLURM", _int(environment.get("SLURM_STEP_NUM_TASKS")) > 1),
        ("Open MPI", _int(environment.get("OMPI_COMM_WORLD_SIZE")) > 1),
        ("the TPU pod", "," in environment.get("TPU_WORKER_HOSTNAMES", "")),
        ("the TPU slices", bool(environment.get("MEGASCALE_COORDINATOR_ADDRESS"))),
    ):
        if describes:
            return Job(None, None, None, scheduler)
    return None


def start(environment: Mapping[str, str] = os.environ) -> None:
    """Joins the job if there is one. Must be called before JAX is used for anything else.

    Raises:
      UserError: the job cannot be joined. Training alone instead would put one run per process
        into the same directory.
    """
    job = find_job(environment)
    if job is None:
        return
    import jax

    _check_port(job)
    try:
        jax.distributed.initialize(
            coordinator_address=job.address,
            num_processes=job.processes,
            process_id=job.number,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=4 * LOST_SECONDS,  # ours is faster and says what to do
            coordinator_bind_address=job.bind_address if job.number == 0 else None,
        )
    except (RuntimeError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"expected to join the job that {job.source} describes "
            f"({job.processes or 'several'} processes at {job.address or 'an address it gives'}), "
            f"found: {first_line}. Start all processes, with one address that all can reach, or "
            f"unset {', '.join(VARIABLES)} to train with one."
        ) from error
    buckets.use_own_copies(jax.process_index())
    heartbeat = Heartbeat(jax.process_index(), jax.process_count())
    heartbeat.start()
    atexit.register(heartbeat.done)
    end_at_once()
    if (address := _coordinator_address()) is not None:
        report_abort(address)


def _check_port(job: Job) -> None:
    """Checks that this process can listen where the others will connect.

    Raises:
      UserError: another program uses the port; JAX would wait, and end with a signal.
    """
    if job.address is None or job.number != 0:
        return
    port = int(job.address.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1" if job.bind_address else "", port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"expected a free port in {ADDRESS}={job.address}, found: "
                f"{getattr(error, 'strerror', None) or error}; choose another port"
            ) from None


class Heartbeat(threading.Thread):
    """Reports that this process is alive, and ends it if another one is lost.

    A collective waits for a lost process, on some backends forever. Heartbeats go through the
    job's coordination service.

    Args:
      number: of this process.
      processes: number of processes.
    """

    def __init__(self, number: int, processes: int) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._number = number
        self._others = [other for other in range(processes) if other != number]
        self._ended = threading.Event()

    def run(self) -> None:
        """Runs until `done`, or until another process is lost."""
        last = dict.fromkeys(self._others, ("", time.monotonic()))
        for beat in itertools.count():
            try:
                self._send(str(beat))
                beats = {other: self._beat_of(other) for other in self._others}
            except Exception as error:  # noqa: BLE001 - whatever the service's client raises
                if not self._ended.is_set():
                    time.sleep(_JAX_REPORTS_SECONDS)
                    _leave(f"process 0 of the job is gone ({str(error).splitlines()[0]})")
                return
            now = time.monotonic()
            for other, received in beats.items():
                if received != last[other][0] or received == _DONE:
                    last[other] = received, now
                elif now - last[other][1] > LOST_SECONDS and not self._ended.is_set():
                    _leave(f"process {other} has sent no heartbeat for {LOST_SECONDS} s")
            if self._ended.wait(_HEARTBEAT_SECONDS):
                return

    def done(self) -> None:
        """Reports that this process ends normally."""
        self._ended.set()
        with contextlib.suppress(Exception):
            self._send(_DONE)

    def _send(self, beat: str) -> None:
        _client().key_value_set(f"fer_jax/alive/{self._number}", beat, allow_overwrite=True)

    def _beat_of(self, other: int) -> str:
        try:
            return str(_client().key_value_try_get(f"fer_jax/alive/{other}"))
        except Exception as error:  # the service's client raises one kind for everything
            if "NOT_FOUND" in str(error):
                return ""
            raise


_DONE = "done"


def report_abort(address: str) -> None:
    """Replaces message and exit code if JAX aborts this process because process 0 is lost.

    JAX aborts in C++ when the process that listens at `address` is gone, with a message that does
    not say what to do. A Python signal handler would run too late: abort() ends the process when
    the C handler returns. Aborts for other reasons are not changed.
    """
    if sys.platform == "win32":
        return

    def aborted(_number: int) -> None:
        if not _is_listening(address):
            _leave("process 0 of the job is gone")

    handler = _HANDLER(aborted)
    _handlers.append(handler)  # a reference: C holds the address only
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_handlers: list[Any] = []


def _is_listening(address: str) -> bool:
    """Whether a process listens at host:port, and still does a second later."""
    host, _, port = address.rpartition(":")
    for wait in (0.5, 0.5, 0.0):  # a process that is ending closes its sockets one after another
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError:
            return False
        time.sleep(wait)
    return True


def _client() -> Any:
    # JAX has no public name for the client.
    from jax._src import distributed

    return distributed.global_state.client


def _coordinator_address() -> str | None:
    """Returns host:port of process 0; None in that process."""
    from jax._src import distributed

    state = distributed.global_state
    return None if state.process_id == 0 else state.coordinator_address


def _leave(why: str) -> None:
    if not _leaving.acquire(blocking=False):
        threading.Event().wait()  # another thread is ending this process
    print(
        f"error: {why}; start the job again: it resumes from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_PEER_LOST)  # immediately: cleanup would wait for the lost process


_leaving = threading.Lock()


def is_lead() -> bool:
    """Whether this process writes logs, reports and other files that are written once."""
    import jax

    return bool(jax.process_index() == 0)


def is_single_process() -> bool:
    """Whether the job has one process."""
    import jax

    return bool(jax.process_count() == 1)


def lead_first(lead: Callable[[], T], others: Callable[[], T]) -> T:
    """Calls `lead` in the lead process, and then `others` in the other processes.

    The others wait until the lead has written its files, also to a bucket.
    """
    if is_single_process():
        return lead()
    from jax.experimental import multihost_utils

    if is_lead():
        result = lead()
        working_copy.push_all()
        multihost_utils.sync_global_devices("the lead is done")
        return result
    multihost_utils.sync_global_devices("the lead is done")
    working_copy.refresh()
    return others()


def min_over_processes(values: Sequence[int | None]) -> list[int | None]:
    """Returns each value's minimum over all processes, so that all decide alike.

    None is ignored; the result is None if no process has a value.
    """
    if is_single_process():
        return list(values)
    import numpy as np
    from jax.experimental import multihost_utils

    unknown = 2**62 - 1  # the maximum of two halves of 31 bits
    own = np.array([unknown if value is None else value for value in values], np.int64)
    # As two halves: JAX transfers 32 bits.
    halves = np.stack([own >> 31, own & 0x7FFFFFFF]).astype(np.int32)
    gathered = np.asarray(multihost_utils.process_allgather(halves)).astype(np.int64)
    found = ((gathered[:, 0] << 31) | gathered[:, 1]).min(axis=0)
    return [None if value == unknown else int(value) for value in found]


def all_processes(holds: bool) -> bool:
    """Whether a condition holds in all processes."""
    return min_over_processes([int(holds)]) == [1]


class StopSign:
    """Whether a process of the job received SIGTERM, reported to all at the same chunk.

    In a job of several processes JAX handles SIGTERM. Processes agree on the number of the call,
    so each must call once per chunk.
    """

    def __init__(self) -> None:
        self._calls = 0

    def asked(self) -> bool:
        """Must be called once at the end of each chunk."""
        from jax.experimental import multihost_utils

        self._calls += 1
        return bool(multihost_utils.reached_preemption_sync_point(self._calls))


@contextlib.contextmanager
def report_lost_peers(checkpoints: Path) -> Iterator[None]:
    """Turns the error of a step whose peer is lost into a message that says what to do.

    Raises:
      PeerLostError: another process is gone; other errors pass.
    """
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # ValueError: from jit's fast path
        if is_single_process() or not any(text in str(error) for text in _LOSS_MESSAGES):
            raise
        raise PeerLostError(
            "another process of the job is gone; start the job again: it resumes from the last "
            f"checkpoint in {checkpoints}"
        ) from error


_LOSS_MESSAGES = (
    "Gloo",
    "gloo",
    "Connection closed by peer",
    "Connection reset by peer",
    "NCCL",
    "coordination service",
    "CoordinationService",
    "heartbeat",
)
"""Parts of the messages of collectives that wait for a lost process."""


def _from_variables(found: Mapping[str, str]) -> Job | None:
    missing = [name for name in VARIABLES if name not in found]
    if missing == [ADDRESS] and found.get(COUNT) == "1":
        return None
    if missing:
        raise UserError(
            f"expected {', '.join(VARIABLES)} together, found {', '.join(found)} alone; set "
            f"{' and '.join(missing)} too, or none of them"
        )
    processes, number = _int(found[COUNT], -1), _int(found[NUMBER], -1)
    host, _, port = found[ADDRESS].rpartition(":")
    if processes < 1 or not 0 <= number < processes or not host or _int(port) < 1:
        raise UserError(
            f"expected {ADDRESS} as host:port, {COUNT} of at least 1 and {NUMBER} from 0 to below "
            f"it, found {found[ADDRESS]!r}, {found[COUNT]!r} and {found[NUMBER]!r}"
        )
    if processes == 1:
        return None
    return Job(found[ADDRESS], processes, number, "the environment")


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _int(text: str | None, otherwise: int = 0) -> int:
    try:
        return int(text) if text else otherwise
    except ValueError:
        return otherwise
