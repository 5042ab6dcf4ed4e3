"""Cost of one invocation of training: time to the first step, throughput, input wait, memory.

Times are taken with the host's clock; device work shows only where the host waits for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
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
    """Cost of one invocation.

    Attributes:
      first_step: steps of the run before the invocation.
      last_step: steps of the run after it.
      seconds: wall-clock time.
      seconds_to_first_step: time until the first metrics arrived, including data, weights and
        compilation. None if no step was run.
      images_per_second: throughput after the first chunk, without compilation, validations and
        saving. None if not measured.
      waiting_share: fraction of that time in which the loop waited for data.
      host_bytes: peak resident memory of the process.
      device_bytes: peak memory of one device; None if the devices do not report it.
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
        """Formats the cost as one line."""
        parts = [f"{self.last_step - self.first_step:,} steps in {self.seconds:.1f} s"]
        if self.seconds_to_first_step is not None:
            parts.append(f"first step after {self.seconds_to_first_step:.1f} s")
        if self.images_per_second is not None and self.waiting_share is not None:
            parts.append(f"then {self.images_per_second:,.0f} images/s")
            parts.append(f"{self.waiting_share:.1%} of the time waiting for data")
        parts.append(f"peak host memory {self.host_bytes / 2**20:,.0f} MiB")
        if self.device_bytes is not None:
            parts.append(f"peak device memory {self.device_bytes / 2**20:,.0f} MiB")
        return ", ".join(parts)


class Timing:
    """Measures the cost of one invocation.

    Args:
      first_step: steps of the run before the invocation.
      batch_size: images per step.
      began: start of the invocation by the clock; now by default.
      clock: returns seconds; for tests.
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
        self._steady: tuple[int, float, float] | None = None  # step, time, waited at the start
        self._excluded = 0.0

    def fetched(self, step: int, waited: float) -> None:
        """Reports that the metrics before `step` have arrived; only the first call has an effect.

        Args:
          step: of the run.
          waited: total seconds that the loop has waited for data.
        """
        if self._steady is None:
            now = self._clock()
            self._to_first = now - self._began
            self._steady, self._excluded = (step, now, waited), 0.0

    @contextlib.contextmanager
    def exclude(self) -> Iterator[None]:
        """Excludes the time spent inside from the throughput."""
        began = self._clock()
        yield
        self._excluded += self._clock() - began

    def cost(self, step: int, waited: float) -> Cost:
        """Returns the cost once `step` steps of the run are done and their metrics fetched."""
        now = self._clock()
        rate = share = None
        if self._steady is not None:
            steps, seconds = step - self._steady[0], now - self._steady[1] - self._excluded
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
    """Adds the cost of an invocation to the run directory's timing.json."""
    path = folder / FILE
    content = {"sittings": [*read_costs(folder), dataclasses.asdict(cost)]}
    files.write_text(path, json.dumps(content, indent=2) + "\n")


def read_costs(folder: Path) -> list[dict[str, Any]]:
    """Returns the fields of `Cost` of each invocation that was not killed."""
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))["sittings"]
        return [row for row in rows if _is_cost(row)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none yet, or damaged
        return []


def _is_cost(row: Any) -> bool:
    numbers = [row[field.name] for field in dataclasses.fields(Cost)]
    is_valid = all(one is None or (isinstance(one, (int, float)) and abs(one) < 1e18)
                   for one in numbers)  # fmt: skip
    return is_valid and None not in (row["seconds"], row["host_bytes"])


def _peak_host_bytes() -> int:
    import resource  # not on Windows, where a report's costs have to be readable

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB


def _peak_device_bytes() -> int | None:
    peaks = [
        (device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()
    ]
    return max((peak for peak in peaks if peak is not None), default=None)
