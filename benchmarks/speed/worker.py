"""The process of one contender: prepares its workload, runs it on request, sleeps otherwise.

    python -m benchmarks.speed.worker '{"task": ..., "module": ..., "settings": ..., ...}'

Reads and writes one JSON object per line. It writes {"first": true, "facts": ...} after its first
step, then answers each {"seconds": S} with the speed over about S seconds. It exits at the end of
its input.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import sys
import time
from typing import Any, Protocol

from benchmarks.speed.tasks import Task
from fer_jax.runtime import huge_pages

SHORT_STEP = 0.5  # seconds
WARM_UP_STEPS = 3  # of short steps, to estimate their duration


class Workload(Protocol):
    """The interface of a contender's workload.

    Attributes:
      facts: saved with the results; at least `parameters` (int or None) and `versions`.
      images_per_step: images in one call of a step.
    """

    facts: dict[str, Any]
    images_per_step: int

    def run(self, steps: int) -> None:
        """Runs `steps` steps and waits for the device."""


class Timer:
    """Runs a workload for a given time."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._step = self._time(1)
        if self._step < SHORT_STEP:
            self._step = self._time(WARM_UP_STEPS) / WARM_UP_STEPS

    def round(self, seconds: float) -> dict[str, float]:
        """Measures the steps of about `seconds`, at least one, after as many warm-up steps.

        Returns:
          images_per_second, and cpu_ms_per_image: the CPU time of all threads, which depends less
          on other work on the machine.
        """
        steps = max(1, math.ceil(seconds / self._step))
        # During the other contenders' turns the caches went cold and a virtual machine may have
        # returned free memory to its host: a step of custom_cnn then takes 2 s instead of 0.4.
        self._workload.run(steps)
        cpu_start = time.process_time()
        seconds = self._time(steps)
        cpu_seconds = time.process_time() - cpu_start
        self._step = seconds / steps
        images = steps * self._workload.images_per_step
        return {
            "images_per_second": images / seconds,
            "cpu_ms_per_image": 1000 * cpu_seconds / images,
        }

    def _time(self, steps: int) -> float:
        start = time.perf_counter()
        self._workload.run(steps)
        return time.perf_counter() - start


def device_peak_bytes(workload: Workload) -> int | None:
    """Returns the peak accelerator memory that the library reports; None on CPUs."""
    report = getattr(workload, "device_peak_bytes", None)
    return report() if report else None


def peak_bytes() -> int:
    """Returns the peak main memory of this process."""
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Serves requests until the input ends."""
    request = json.loads(sys.argv[1])
    if request["module"].startswith("ours"):
        huge_pages.restart()  # like fer-jax train, predict and serve
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps the output of libraries out of the answers

    def send(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    if request["device"] == "cpu":
        # XLA uses as many threads as the process has cores.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["threads"]])
    task = Task(**request["task"])
    module = importlib.import_module(f"benchmarks.speed.contenders.{request['module']}")
    workload = module.make(task, request["settings"], request["device"], request["threads"])
    if hasattr(workload, "measure"):  # a ceiling
        send(first=True, facts=workload.facts)
        for _ in sys.stdin:
            send(**workload.measure())
        return
    workload.run(1)
    send(first=True, facts=workload.facts)
    timer: Timer | None = None
    for line in sys.stdin:
        timer = timer or Timer(workload)
        speed: dict[str, Any] = timer.round(json.loads(line)["seconds"])
        send(**speed, peak_bytes=peak_bytes(), device_peak_bytes=device_peak_bytes(workload))


if __name__ == "__main__":
    main()
