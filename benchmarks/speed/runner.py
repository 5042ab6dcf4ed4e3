"""Starts the contenders of a task, lets them take turns, and keeps what they say.

One works at a time. A contender that fails, or takes longer than it may, is kept with the
reason, and the others go on. A peer that is far behind the best of its precision after its
first round is ended then, because only the best counts and memory is short.
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
ROOM = 5 * 2**30  # bytes of free memory without which nobody is started
PAUSE = 0.3  # seconds in which the threads of who worked last fall asleep


@dataclasses.dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
      peers: the interpreter that has them.
      device: "cpu" or "gpu".
      threads: that each contender may use on a CPU.
      rounds: turns of each contender.
      seconds: of the half of a turn that counts; one step at least.
      limit: seconds that a start or a turn may take.
      starts: 1 is with empty caches; 2 is once more with what the first left in them.
      keep: the share of the best peer's speed above which a peer goes on after its first round.
      logs: folder for what the contenders print.
      caches: folder for compiled programs that stays; None is an empty one for each contender.
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
    """Why a contender cannot go on."""


class Worker:
    """The process of a contender, paused but when it is asked something.

    Args:
      name: of the contender.
      contender: what it is.
      task: what it does.
      options: of the run.
      caches: folder for compiled programs.

    Raises:
      FailedError: it did not get through its first step.
    """

    def __init__(
        self, name: str, contender: Contender, task: Task, options: Options, caches: Path
    ) -> None:
        self._limit = options.limit
        self._log = options.logs / f"{task.kind}-{task.model}-{task.size}-{task.batch}-{name}.log"
        order = {
            "task": dataclasses.asdict(task),
            "module": contender.module,
            "settings": dict(contender.settings),
            "device": options.device,
            "threads": options.threads,
        }
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable if contender.is_ours else options.peers,
                    "-m",
                    "benchmarks.speed.worker",
                    json.dumps(order),
                ],
                cwd=ROOT,
                env=_environment(contender, options, caches),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # compilers that it starts end with it
            )
        try:
            self.facts: dict[str, Any] = self._answer()["facts"]
        except BaseException:  # whoever ends the benchmark while this one compiles
            self.end()
            raise
        self.seconds_to_first_step = time.monotonic() - began

    def round(self, seconds: float) -> dict[str, Any]:
        """A turn.

        Raises:
          FailedError: it ended, or took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"seconds": seconds}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # why, says its log
        return self._answer()

    def end(self) -> None:
        """Ends the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            if not waiting.select(self._limit):
                raise FailedError(f"took longer than {self._limit:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise FailedError(self._last_words())
        return cast(dict[str, Any], json.loads(line))

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        errors = [line.strip() for line in lines if "Error" in line]
        said = (errors or lines or ["without a word"])[-1]
        return f"ended with code {self._process.wait()}: {said[:300]}"


def _environment(contender: Contender, options: Options, caches: Path) -> dict[str, str]:
    threads = str(options.threads)
    caching = {
        "FER_JAX_CACHE": caches,
        "TORCHINDUCTOR_CACHE_DIR": caches / "inductor",
        "TRITON_CACHE_DIR": caches / "triton",
    }
    everywhere = {
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        # Several contenders share a GPU's memory.
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
        **everywhere,
        **(on_cpu if options.device == "cpu" else {}),
        **contender.environment,
    }


Result = dict[str, Any]
"""Of a contender: rounds (images per second), cpu_ms_per_image, seconds_to_first_step (cold, then
warm; None if not known), facts, peak_bytes, device_peak_bytes; failed or ended_early, with the
reason, where rounds are missing."""


class Turns:
    """The contenders of a task that are alive, and the results of all.

    Args:
      task: what they do.
      options: of the run.
      say: prints a line.
    """

    def __init__(self, task: Task, options: Options, say: Callable[[str], None]) -> None:
        self._task, self._options, self._say = task, options, say
        self._alive: dict[str, Worker] = {}
        self.results: dict[str, Result] = {}
        self.ceilings: dict[str, Result] = {}

    def start(self, name: str, contender: Contender) -> None:
        """Starts one, once or twice, and gives it its first turn."""
        ceiling = name in CEILINGS
        # Where programs are kept, nobody knows whether a first start is cold.
        starts: list[float | None] = [] if self._options.caches is None else [None]
        result: Result = {"precision": contender.precision, "seconds_to_first_step": starts}
        (self.ceilings if ceiling else self.results)[name] = result
        try:
            _check_room()
            with self._caches(name) as caches:
                for _ in range(1 if ceiling else self._options.starts):
                    if name in self._alive:
                        self._alive.pop(name).end()
                    worker = Worker(name, contender, self._task, self._options, caches)
                    self._alive[name] = worker
                    starts.append(worker.seconds_to_first_step)
            result |= {"facts": worker.facts, "rounds": [], "cpu_ms_per_image": []}
            self._check_parameters(name)
            self._turn(name)
        except FailedError as error:
            self._fail(name, error)
        else:
            self._end_those_behind(contender.precision)

    @contextlib.contextmanager
    def _caches(self, name: str) -> Iterator[Path]:
        if self._options.caches is not None:
            yield (self._options.caches / name).resolve()
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def go_round(self, number: int) -> None:
        """A turn for everybody alive, beginning with another one each time."""
        names = list(self._alive)
        first = number % len(names) if names else 0
        for name in names[first:] + names[:first]:
            try:
                self._turn(name)
            except FailedError as error:
                self._fail(name, error)

    def end(self) -> None:
        """Ends all processes."""
        for worker in self._alive.values():
            worker.end()
        self._alive.clear()

    def _turn(self, name: str) -> None:
        time.sleep(PAUSE)
        found = self._alive[name].round(self._options.seconds)
        if name in CEILINGS:
            self.ceilings[name]["rounds"].append(found)
            return
        result = self.results[name]
        result["rounds"].append(found["images_per_second"])
        result["cpu_ms_per_image"].append(found["cpu_ms_per_image"])
        result |= {name: found[name] for name in ("peak_bytes", "device_peak_bytes")}
        speed, work = found["images_per_second"], found["cpu_ms_per_image"]
        self._say(f"  {name:24} {speed:10.2f} images/s, {work:9.2f} CPU ms an image")

    def _fail(self, name: str, error: FailedError) -> None:
        (self.ceilings if name in CEILINGS else self.results)[name]["failed"] = str(error)
        self._say(f"  {name:24} failed: {error}")
        if name in self._alive:
            self._alive.pop(name).end()

    def _check_parameters(self, name: str) -> None:
        """Raises if it trains another number of parameters than those before it."""
        counts = {
            other: result["facts"]["parameters"]
            for other, result in self.results.items()
            if result.get("facts", {}).get("parameters") is not None
        }
        if name in counts and len(set(counts.values())) > 1:
            raise FailedError(f"another network: the counts of parameters are {counts}")

    def _end_those_behind(self, precision: str) -> None:
        speeds = {
            name: statistics.median(self.results[name]["rounds"])
            for name in self._alive
            if name not in CEILINGS
            and not CONTENDERS[name].is_ours
            and CONTENDERS[name].precision == precision
        }
        best = max(speeds.values(), default=0.0)
        for name, speed in speeds.items():
            if speed < self._options.keep * best:
                reason = f"{speed / best:.2f} of the best peer so far"
                self.results[name]["ended_early"] = reason
                self._say(f"  {name:24} ended: {reason}")
                self._alive.pop(name).end()


def _check_room() -> None:
    free = free_host_bytes()
    if free is not None and free < ROOM:
        raise FailedError(
            f"{free / 2**30:.1f} GiB of memory free, {ROOM / 2**30:.0f} are asked for"
        )


@contextlib.contextmanager
def _turns(task: Task, options: Options, say: Callable[[str], None]) -> Iterator[Turns]:
    turns = Turns(task, options, say)
    try:
        yield turns
    finally:
        turns.end()


def measure(
    task: Task,
    contenders: Mapping[str, Contender],
    ceilings: Sequence[str],
    options: Options,
    keep: Callable[[Result], None],
    say: Callable[[str], None] = print,
) -> None:
    """Measures a task.

    Args:
      task: what is done.
      contenders: who takes part, in the order of their starts.
      ceilings: names of `CEILINGS`.
      options: how.
      keep: is given all that is known after each round.
      say: prints a line.
    """
    options.logs.mkdir(parents=True, exist_ok=True)
    with _turns(task, options, say) as turns:
        say(f"{task.name}: starting")
        for name, contender in {
            **{name: CEILINGS[name] for name in ceilings},
            **contenders,
        }.items():
            turns.start(name, contender)
        for number in range(1, options.rounds + 1):
            keep({"contenders": turns.results, "ceilings": turns.ceilings})
            if number < options.rounds:
                say(f"{task.name}: round {number + 1} of {options.rounds}")
                turns.go_round(number)
