"""Starts the contenders of a task, gives each its turns, and collects the results.

One contender works at a time. If one fails or exceeds its time limit, the reason is recorded and
the others continue. A peer that is far behind the best of its precision is stopped after its first
round, because only the best counts and memory is limited.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.speed.tasks import CEILINGS, CONTENDERS, Contender, Task
from fer_jax.data.store import free_host_bytes

ROOT = Path(__file__).parents[2]
MIN_FREE_BYTES = 5 * 2**30  # required to start a contender
PAUSE = 0.3  # seconds between turns, in which the last contender's threads go to sleep


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of a measurement.

    Attributes:
      peers: Python interpreter with the other libraries.
      device: "cpu" or "gpu".
      threads: CPU threads per contender.
      rounds: turns per contender.
      seconds: duration of the measured half of a turn; at least one step.
      limit: time limit of a start or a turn, s.
      starts: 1: cold start with empty caches; 2: a warm start after it.
      keep: minimum share of the best peer's speed for a peer to continue after its first round.
      logs: folder for the contenders' output.
      caches: persistent folder of compiled programs; None: an empty one per contender.
    """

    peers: str
    device: str
    threads: int
    rounds: int
    seconds: float
    limit: float
    starts: int
    keep: float
    logs: Path
    caches: Path | None


class FailedError(Exception):
    """A contender cannot continue; the message is the reason."""


class Worker:
    """The process of a contender, which sleeps between its turns.

    Args:
      name: name of the contender.
      contender: its definition.
      task: its task.
      options: settings of the measurement.
      caches: folder for compiled programs.

    Raises:
      FailedError: the first step failed.
    """

    def __init__(
        self, name: str, contender: Contender, task: Task, options: Options, caches: Path
    ) -> None:
        self._limit = options.limit
        self._log = options.logs / f"{task.kind}-{task.model}-{task.size}-{task.batch}-{name}.log"
        request = {
            "task": dataclasses.asdict(task),
            "module": contender.module,
            "settings": dict(contender.settings),
            "device": options.device,
            "threads": options.threads,
        }
        start = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable if contender.is_ours else options.peers,
                    "-m",
                    "benchmarks.speed.worker",
                    json.dumps(request),
                ],
                cwd=ROOT,
                env=_environment(contender, options, caches),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a group, killed together with its compilers
            )
        try:
            self.facts: dict[str, Any] = self._answer()["facts"]
        except BaseException:  # e.g. the benchmark is interrupted while this one compiles
            self.end()
            raise
        self.seconds_to_first_step = time.monotonic() - start

    def round(self, seconds: float) -> dict[str, Any]:
        """Runs a turn and returns its speed.

        Raises:
          FailedError: the process ended, or exceeded the time limit.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"seconds": seconds}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the reason is in its log
        return self._answer()

    def end(self) -> None:
        """Kills the process and its descendants."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._limit):
                raise FailedError(f"took longer than {self._limit:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise FailedError(self._exit_message())
        return cast(dict[str, Any], json.loads(line))

    def _exit_message(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        errors = [line.strip() for line in lines if "Error" in line]
        last = (errors or lines or ["no output"])[-1]
        return f"ended with code {self._process.wait()}: {last[:300]}"


def _environment(contender: Contender, options: Options, caches: Path) -> dict[str, str]:
    threads = str(options.threads)
    caching = {
        "FER_JAX_CACHE": caches,
        "TORCHINDUCTOR_CACHE_DIR": caches / "inductor",
        "TRITON_CACHE_DIR": caches / "triton",
    }
    common = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        # The contenders share the GPU's memory.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
    on_cpu = {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
        "TF_NUM_INTRAOP_THREADS": threads,
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return {
        **os.environ,
        **{name: str(folder) for name, folder in caching.items()},
        **common,
        **(on_cpu if options.device == "cpu" else {}),
        **contender.environment,
    }


Result = dict[str, Any]
"""A contender's results: rounds (images per second), cpu_ms_per_image, seconds_to_first_step (cold,
then warm; None if unknown), facts, peak_bytes, device_peak_bytes; `failed` or `ended_early` with
the reason if rounds are missing."""


class Contest:
    """The running contenders of a task, and the results of all.

    Args:
      task: the task.
      options: settings of the measurement.
      log: prints a line.
    """

    def __init__(self, task: Task, options: Options, log: Callable[[str], None]) -> None:
        self._task, self._options, self._log = task, options, log
        self._running: dict[str, Worker] = {}
        self.results: dict[str, Result] = {}
        self.ceilings: dict[str, Result] = {}

    def start(self, name: str, contender: Contender) -> None:
        """Starts a contender, once or twice, and runs its first turn."""
        ceiling = name in CEILINGS
        # With a persistent cache it is unknown whether the first start is cold.
        starts: list[float | None] = [] if self._options.caches is None else [None]
        result: Result = {"precision": contender.precision, "seconds_to_first_step": starts}
        (self.ceilings if ceiling else self.results)[name] = result
        try:
            _check_memory()
            with self._caches(name) as caches:
                for _ in range(1 if ceiling else self._options.starts):
                    if name in self._running:
                        self._running.pop(name).end()
                    worker = Worker(name, contender, self._task, self._options, caches)
                    self._running[name] = worker
                    starts.append(worker.seconds_to_first_step)
            result |= {"facts": worker.facts, "rounds": [], "cpu_ms_per_image": []}
            self._check_parameters(name)
            self._turn(name)
        except FailedError as error:
            self._fail(name, error)
        else:
            self._stop_slow_peers(contender.precision)

    @contextlib.contextmanager
    def _caches(self, name: str) -> Iterator[Path]:
        if self._options.caches is not None:
            yield (self._options.caches / name).resolve()
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def run_round(self, number: int) -> None:
        """Runs a turn of every running contender, starting with a different one each round."""
        names = list(self._running)
        first = number % len(names) if names else 0
        for name in names[first:] + names[:first]:
            try:
                self._turn(name)
            except FailedError as error:
                self._fail(name, error)

    def end(self) -> None:
        """Kills all processes."""
        for worker in self._running.values():
            worker.end()
        self._running.clear()

    def _turn(self, name: str) -> None:
        time.sleep(PAUSE)
        turn = self._running[name].round(self._options.seconds)
        if name in CEILINGS:
            self.ceilings[name]["rounds"].append(turn)
            return
        result = self.results[name]
        speed, cpu_ms = turn["images_per_second"], turn["cpu_ms_per_image"]
        result["rounds"].append(speed)
        result["cpu_ms_per_image"].append(cpu_ms)
        result |= {peak: turn[peak] for peak in ("peak_bytes", "device_peak_bytes")}
        self._log(f"  {name:24} {speed:10.2f} images/s, {cpu_ms:9.2f} CPU ms/image")

    def _fail(self, name: str, error: FailedError) -> None:
        (self.ceilings if name in CEILINGS else self.results)[name]["failed"] = str(error)
        self._log(f"  {name:24} failed: {error}")
        if name in self._running:
            self._running.pop(name).end()

    def _check_parameters(self, name: str) -> None:
        """Raises FailedError if its parameter count differs from the earlier contenders'."""
        counts = {
            other: result["facts"]["parameters"]
            for other, result in self.results.items()
            if result.get("facts", {}).get("parameters") is not None
        }
        if name in counts and len(set(counts.values())) > 1:
            raise FailedError(f"expected equal parameter counts, found {counts}")

    def _stop_slow_peers(self, precision: str) -> None:
        speeds = {
            name: statistics.median(self.results[name]["rounds"])
            for name in self._running
            if name not in CEILINGS
            and not CONTENDERS[name].is_ours
            and CONTENDERS[name].precision == precision
        }
        best = max(speeds.values(), default=0.0)
        for name, speed in speeds.items():
            if speed < self._options.keep * best:
                reason = f"{speed / best:.2f} of the best peer"
                self.results[name]["ended_early"] = reason
                self._log(f"  {name:24} stopped: {reason}")
                self._running.pop(name).end()


def _check_memory() -> None:
    free = free_host_bytes()
    if free is not None and free < MIN_FREE_BYTES:
        raise FailedError(
            f"expected {MIN_FREE_BYTES / 2**30:.0f} GiB of free memory, found {free / 2**30:.1f}"
        )


@contextlib.contextmanager
def _contest(task: Task, options: Options, log: Callable[[str], None]) -> Iterator[Contest]:
    contest = Contest(task, options, log)
    try:
        yield contest
    finally:
        contest.end()


def measure(
    task: Task,
    contenders: Mapping[str, Contender],
    ceilings: Sequence[str],
    options: Options,
    save: Callable[[Result], None],
    log: Callable[[str], None] = print,
) -> None:
    """Measures a task.

    Args:
      task: the task.
      contenders: its contenders, in the order in which they start.
      ceilings: names of `CEILINGS`.
      options: settings of the measurement.
      save: called with all results after each start and round.
      log: prints a line.
    """
    options.logs.mkdir(parents=True, exist_ok=True)
    with _contest(task, options, log) as contest:
        log(f"{task.name}: starting")
        for name, contender in {
            **{name: CEILINGS[name] for name in ceilings},
            **contenders,
        }.items():
            contest.start(name, contender)
            save({"contenders": contest.results, "ceilings": contest.ceilings})
        for number in range(1, options.rounds + 1):
            save({"contenders": contest.results, "ceilings": contest.ceilings})
            if number < options.rounds:
                log(f"{task.name}: round {number + 1} of {options.rounds}")
                contest.run_round(number)
