"""What a sitting of training cost: time to the first step, speed, waiting, memory.

Measured on the host with its clock; what a device does meanwhile is seen only where the
host waits for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from fer_jax import files

FILE = "timing.json"


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one sitting.

    Attributes:
      first_step: steps of the run before it.
      last_step: steps of the run after it.
      seconds: from its start to its end.
      seconds_to_first_step: until the first metrics came back; data, weights and compiling are
        in it. None if there were none.
      images_per_second: after the first chunk, without compiling, validations and saving.
        None if nothing is left to measure.
      waiting_share: of the same time, in which the loop waited for data.
      host_bytes: the most main memory that the process held.
      device_bytes: the most memory of one device; None where devices do not tell.
    """

    first_step: int
    last_step: int
    seconds: float
    seconds_to_first_step: float | None
    images_per_second: float | None
    waiting_share: float | None
    host_bytes: int
    device_bytes: int | None

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"{self.last_step - self.first_step:,} steps in {self.seconds:.1f} s"]
        if self.seconds_to_first_step is not None:
            parts.append(f"the first after {self.seconds_to_first_step:.1f} s")
        if self.images_per_second is not None and self.waiting_share is not None:
            parts.append(f"then {self.images_per_second:,.0f} images/s")
            parts.append(f"{self.waiting_share:.1%} of it waiting for data")
        memory = f"at most {self.host_bytes / 2**20:,.0f} MiB of main memory"
        if self.device_bytes is not None:
            memory += f" and {self.device_bytes / 2**20:,.0f} MiB of a device"
        return ", ".join([*parts, memory])


class Timing:
    """Takes the time of one sitting.

    Args:
      first_step: steps of the run before it.
      batch_size: images per step.
      began: by the clock, when the sitting began; now by default.
      clock: seconds, for tests.
    """

    def __init__(
        self,
        first_step: int,
        batch_size: int,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._batch, self._first = clock, batch_size, first_step
        self._began = clock() if began is None else began
        self._to_first: float | None = None
        self._steady: tuple[int, float, float] | None = None  # step, time, waited at its start
        self._aside = 0.0

    def fetched(self, step: int, waited: float) -> None:
        """The metrics of the steps before `step` are back; only the first call counts.

        Args:
          step: of the run.
          waited: seconds that the loop has waited for data so far.
        """
        if self._steady is None:
            now = self._clock()
            self._to_first = now - self._began
            self._steady, self._aside = (step, now, waited), 0.0

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What is done within does not count as training."""
        began = self._clock()
        yield
        self._aside += self._clock() - began

    def cost(self, step: int, waited: float) -> Cost:
        """At the end, when `step` steps of the run are done and fetched."""
        now = self._clock()
        rate = share = None
        if self._steady is not None:
            steps, seconds = step - self._steady[0], now - self._steady[1] - self._aside
            if steps > 0 and seconds > 0:
                rate = steps * self._batch / seconds
                share = min(1.0, (waited - self._steady[2]) / seconds)
        return Cost(
            first_step=self._first,
            last_step=step,
            seconds=now - self._began,
            seconds_to_first_step=self._to_first,
            images_per_second=rate,
            waiting_share=share,
            host_bytes=_peak_host_bytes(),
            device_bytes=_peak_device_bytes(),
        )


def append_cost(folder: Path, cost: Cost) -> None:
    """Adds a sitting to the run directory's timing.json."""
    path = folder / FILE
    sittings = read_costs(folder)
    content = {"sittings": [*sittings, dataclasses.asdict(cost)]}
    files.write_text(path, json.dumps(content, indent=2) + "\n")


def read_costs(folder: Path) -> list[dict[str, Any]]:
    """The sittings of a run as `Cost`'s fields; those that were killed are not among them."""
    try:
        return list(json.loads((folder / FILE).read_text())["sittings"])
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or nothing worth keeping
        return []


def _peak_host_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _peak_device_bytes() -> int | None:
    found = [
        (device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()
    ]
    return max((peak for peak in found if peak is not None), default=None)
