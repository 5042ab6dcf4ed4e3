"""The process of one contender: makes its work ready, does it when told to, sleeps otherwise.

    python -m benchmarks.speed.worker '{"task": ..., "module": ..., "settings": ..., ...}'

Speaks JSON, a line each. It begins with {"first": true} after the first step, whose parameters
the runner compares, then answers {"seconds": S} with what it did in about that time. It ends
when its input does.
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

SHORT = 0.5  # seconds of a step
WARM_UP = 3  # of such steps, before the time of one is believed


class Work(Protocol):
    """What a contender's module makes.

    Attributes:
      facts: to keep with the results: `parameters`, an int, and `versions` at least.
      at_once: images in one step, or in what it takes for one.
    """

    facts: dict[str, Any]
    at_once: int

    def run(self, steps: int) -> None:
        """Does so many steps; returns when the device is done."""


class Paced:
    """Does a work for about as long as it is asked to."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._step = self._timed(1)
        if self._step < SHORT:
            self._step = self._timed(WARM_UP) / WARM_UP

    def round(self, seconds: float) -> dict[str, float]:
        """Speed over as many steps as take about `seconds`, one at least, after as many again.

        Returns:
          images_per_second, and cpu_ms_per_image, the processor's time of all threads: on a
          machine that does other work too it changes less.
        """
        steps = max(1, math.ceil(seconds / self._step))
        # While others had their turn caches went cold, and a virtual machine gave free memory
        # back to its host: steps of custom_cnn then take 2 s for 0.4 until all is there again.
        self._work.run(steps)
        worked = time.process_time()
        taken = self._timed(steps)
        worked = time.process_time() - worked
        self._step = taken / steps
        images = steps * self._work.at_once
        return {"images_per_second": images / taken, "cpu_ms_per_image": 1000 * worked / images}

    def _timed(self, steps: int) -> float:
        began = time.perf_counter()
        self._work.run(steps)
        return time.perf_counter() - began


def device_peak_bytes(work: Work) -> int | None:
    """The most memory of an accelerator, as the library of the work counts it; None on CPUs."""
    told = getattr(work, "device_peak_bytes", None)
    return told() if told else None


def peak_bytes() -> int:
    """The most main memory that this process has held."""
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Works until its input ends."""
    order = json.loads(sys.argv[1])
    if order["module"].startswith("ours"):
        huge_pages.restart()  # as whoever trains, predicts or serves
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    if order["device"] == "cpu":
        # XLA has as many threads as the process has cores.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: order["threads"]])
    task = Task(**order["task"])
    module = importlib.import_module(f"benchmarks.speed.contenders.{order['module']}")
    work = module.make(task, order["settings"], order["device"], order["threads"])
    if hasattr(work, "measure"):  # a ceiling
        say(first=True, facts=work.facts)
        for _ in sys.stdin:
            say(**work.measure())
        return
    work.run(1)
    say(first=True, facts=work.facts)
    paced: Paced | None = None
    for line in sys.stdin:
        paced = paced or Paced(work)
        found: dict[str, Any] = paced.round(json.loads(line)["seconds"])
        say(**found, peak_bytes=peak_bytes(), device_peak_bytes=device_peak_bytes(work))


if __name__ == "__main__":
    main()
