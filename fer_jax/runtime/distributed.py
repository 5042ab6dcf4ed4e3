"""Several processes as one job: who they are, how they meet, and what one process is spared.

One contract: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, as the scripts in
launch/ set them. Without it, what SLURM, Open MPI or a TPU pod says, which JAX reads. Without
either, one process, no service and no open port. Importing this starts nothing.
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

from fer_jax.errors import EXIT_PEER_LOST, PeerLostError, UserError, end_at_once

T = TypeVar("T")

ADDRESS = "JAX_COORDINATOR_ADDRESS"
COUNT = "JAX_NUM_PROCESSES"
NUMBER = "JAX_PROCESS_ID"
CONTRACT = (ADDRESS, COUNT, NUMBER)

MEETING_SECONDS = 300
"""How long processes wait for each other at the start; a cold node needs minutes."""

SILENCE_SECONDS = 30
"""A process that is not heard of for so long is taken for dead, and the others end."""

_BEAT_SECONDS = 2.0
_LAST_WORD_SECONDS = 0.5  # JAX itself may be speaking of the same loss, at length


@dataclasses.dataclass(frozen=True)
class Job:
    """What the environment says of the job.

    Attributes:
      address: host:port of the process that the others meet; None where JAX finds it out.
      processes: how many there are; None where JAX finds it out.
      number: of this one, from 0; None where JAX finds it out.
      said_by: who says so, for messages.
    """

    address: str | None
    processes: int | None
    number: int | None
    said_by: str

    @property
    def bind_address(self) -> str | None:
        """Where the meeting point listens: on one machine nowhere but on that machine."""
        if self.address is None or not _is_local(self.address):
            return None
        return f"127.0.0.1:{self.address.rpartition(':')[2]}"


def find_job(environment: Mapping[str, str]) -> Job | None:
    """The job that this process belongs to; None if it stands alone.

    Raises:
      UserError: the contract is there in part, or is none.
    """
    given = {name: environment[name] for name in CONTRACT if environment.get(name)}
    if given:
        return _by_contract(given)
    for scheduler, tells in (
        ("SLURM", _int(environment.get("SLURM_STEP_NUM_TASKS")) > 1),
        ("Open MPI", _int(environment.get("OMPI_COMM_WORLD_SIZE")) > 1),
        ("the TPU pod", "," in environment.get("TPU_WORKER_HOSTNAMES", "")),
        ("the TPU slices", bool(environment.get("MEGASCALE_COORDINATOR_ADDRESS"))),
    ):
        if tells:
            return Job(None, None, None, scheduler)
    return None


def start(environment: Mapping[str, str] = os.environ) -> None:
    """Joins the job, if there is one; before JAX is used for anything else.

    Raises:
      UserError: there is a job and it cannot be joined. To train alone instead would give
        as many runs in one directory as there are processes.
    """
    job = find_job(environment)
    if job is None:
        return
    import jax

    try:
        jax.distributed.initialize(
            coordinator_address=job.address,
            num_processes=job.processes,
            process_id=job.number,
            initialization_timeout=MEETING_SECONDS,
            heartbeat_timeout_seconds=4 * SILENCE_SECONDS,  # ours says what to do, and is sooner
            coordinator_bind_address=job.bind_address if job.number == 0 else None,
        )
    except (RuntimeError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"expected to join the job that {job.said_by} describes "
            f"({job.processes or 'several'} processes at {job.address or 'an address it gives'}), "
            f"found: {first_line}. Start all processes, with one address that all can reach, or "
            f"unset {', '.join(CONTRACT)} to train with one."
        ) from error
    watch = Watch(jax.process_index(), jax.process_count())
    watch.start()
    atexit.register(watch.done)
    end_at_once()
    if (address := _meeting_point()) is not None:
        explain_abort(address)


class Watch(threading.Thread):
    """Says now and then that this process lives, and ends it when another one does not.

    A collective waits for a process that is gone, on some backends for ever. The words go
    through the job's own meeting point.

    Args:
      number: of this process.
      processes: how many there are.
    """

    def __init__(self, number: int, processes: int) -> None:
        super().__init__(name="watch", daemon=True)
        self._number = number
        self._others = [other for other in range(processes) if other != number]
        self._ended = threading.Event()

    def run(self) -> None:
        """Until `done`, or until another process is silent for too long."""
        heard = dict.fromkeys(self._others, ("", time.monotonic()))
        for beat in itertools.count():
            try:
                self._say(str(beat))
                words = {other: self._word_of(other) for other in self._others}
            except Exception as error:  # noqa: BLE001 - whatever the service's client raises
                if not self._ended.is_set():
                    time.sleep(_LAST_WORD_SECONDS)
                    _leave(f"process 0 of the job is gone ({str(error).splitlines()[0]})")
                return
            now = time.monotonic()
            for other, word in words.items():
                if word != heard[other][0] or word == _DONE:
                    heard[other] = word, now
                elif now - heard[other][1] > SILENCE_SECONDS and not self._ended.is_set():
                    _leave(f"process {other} was not heard of for {SILENCE_SECONDS} s")
            if self._ended.wait(_BEAT_SECONDS):
                return

    def done(self) -> None:
        """This process is about to end as it should; nobody need miss it."""
        self._ended.set()
        with contextlib.suppress(Exception):
            self._say(_DONE)

    def _say(self, word: str) -> None:
        _client().key_value_set(f"fer_jax/alive/{self._number}", word, allow_overwrite=True)

    def _word_of(self, other: int) -> str:
        try:
            return str(_client().key_value_try_get(f"fer_jax/alive/{other}"))
        except Exception as error:  # the service's client raises one kind for everything
            if "NOT_FOUND" in str(error):
                return ""
            raise


_DONE = "done"


def explain_abort(address: str) -> None:
    """Gives this process our words and exit code where JAX aborts it for want of a meeting point.

    JAX aborts in C++, at once, when the process is gone that listens at `address`; its words do
    not say what to do. A handler of Python's own would run too late: abort() ends the process
    when the handler returns. Aborts for other reasons go on as they would.
    """
    if sys.platform == "win32":
        return

    def aborted(_number: int) -> None:
        if not _answers(address):
            _leave("process 0 of the job is gone")

    handler = _HANDLER(aborted)
    _handlers.append(handler)  # kept: C has its address alone
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_handlers: list[Any] = []


def _answers(address: str) -> bool:
    """Whether somebody listens at host:port, also a second later."""
    host, _, port = address.rpartition(":")
    for wait in (0.5, 0.5, 0.0):  # a process that is being ended closes one thing after another
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError:
            return False
        time.sleep(wait)
    return True


def _client() -> Any:
    # JAX has no public name for it; everything else here is public.
    from jax._src import distributed

    return distributed.global_state.client


def _meeting_point() -> str | None:
    """host:port of process 0; None in that process itself."""
    from jax._src import distributed

    state = distributed.global_state
    return None if state.process_id == 0 else state.coordinator_address


def _leave(why: str) -> None:
    if not _leaving.acquire(blocking=False):
        threading.Event().wait()  # another thread has said it, and ends this process
    print(
        f"error: {why}; start the job again: it continues from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_PEER_LOST)  # at once: tidying up would wait for the process that is gone


_leaving = threading.Lock()


def is_lead() -> bool:
    """Whether this process writes logs, reports and what else is needed once."""
    import jax

    return bool(jax.process_index() == 0)


def is_single_process() -> bool:
    """Whether there is one process only."""
    import jax

    return bool(jax.process_count() == 1)


def lead_first(lead: Callable[[], T], others: Callable[[], T]) -> T:
    """What `lead` gives in the lead process, and then `others` in the others.

    They wait for the lead to be done with its files.
    """
    if is_single_process():
        return lead()
    from jax.experimental import multihost_utils

    if is_lead():
        result = lead()
        multihost_utils.sync_global_devices("the lead is done")
        return result
    multihost_utils.sync_global_devices("the lead is done")
    return others()


def min_over_processes(values: Sequence[int | None]) -> list[int | None]:
    """Each value's least over all processes, so that all decide alike; None where none tells."""
    if is_single_process():
        return list(values)
    import numpy as np
    from jax.experimental import multihost_utils

    unknown = 2**62 - 1  # the most that two halves of 31 bits hold
    own = np.array([unknown if value is None else value for value in values], np.int64)
    # As two halves: 64 bits are cut to 32 on the way.
    halves = np.stack([own >> 31, own & 0x7FFFFFFF]).astype(np.int32)
    everybody = np.asarray(multihost_utils.process_allgather(halves)).astype(np.int64)
    found = ((everybody[:, 0] << 31) | everybody[:, 1]).min(axis=0)
    return [None if value == unknown else int(value) for value in found]


def all_processes(holds: bool) -> bool:
    """Whether something holds in all processes."""
    return min_over_processes([int(holds)]) == [1]


class StopSign:
    """Whether a process of the job was asked to leave, told to all at the same chunk.

    In a job of several processes JAX listens for SIGTERM; the number of the call is what they
    agree on, so every process has to ask once a chunk.
    """

    def __init__(self) -> None:
        self._calls = 0

    def asked(self) -> bool:
        """Asked once at the end of each chunk."""
        from jax.experimental import multihost_utils

        self._calls += 1
        return bool(multihost_utils.reached_preemption_sync_point(self._calls))


@contextlib.contextmanager
def report_lost_peers(checkpoints: Path) -> Iterator[None]:
    """Turns what a step says when another process is gone into what to do.

    Raises:
      PeerLostError: another process is gone; other errors pass.
    """
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # a ValueError by jit's fast path
        if is_single_process() or not any(sign in str(error) for sign in _SIGNS_OF_LOSS):
            raise
        raise PeerLostError(
            "another process of the job is gone; start the job again: it continues from the last "
            f"checkpoint in {checkpoints}"
        ) from error


_SIGNS_OF_LOSS = (
    "Gloo",
    "gloo",
    "Connection closed by peer",
    "Connection reset by peer",
    "NCCL",
    "coordination service",
    "CoordinationService",
    "heartbeat",
)
"""In the messages of collectives that wait for a process which is gone."""


def _by_contract(given: Mapping[str, str]) -> Job | None:
    missing = [name for name in CONTRACT if name not in given]
    if missing == [ADDRESS] and given.get(COUNT) == "1":
        return None
    if missing:
        raise UserError(
            f"expected {', '.join(CONTRACT)} together, found {', '.join(given)} alone; set "
            f"{' and '.join(missing)} too, or none of them"
        )
    processes, number = _int(given[COUNT], -1), _int(given[NUMBER], -1)
    host, _, port = given[ADDRESS].rpartition(":")
    if processes < 1 or not 0 <= number < processes or not host or _int(port) < 1:
        raise UserError(
            f"expected {ADDRESS} as host:port, {COUNT} of at least 1 and {NUMBER} from 0 to below "
            f"it, found {given[ADDRESS]!r}, {given[COUNT]!r} and {given[NUMBER]!r}"
        )
    if processes == 1:
        return None
    return Job(given[ADDRESS], processes, number, "the environment")


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
