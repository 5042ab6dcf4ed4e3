"""metrics.jsonl: one JSON object per logged step."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax.monitor.writers import write_errors


class JsonLinesWriter:
    """Appends lines such as {"step": 20, "train/loss": 1.9}.

    Numbers have the fewest digits that round-trip; NaN and infinity, which JSON lacks, become
    null. Every line is flushed to the operating system, so a killed process loses none and
    readers see whole lines.

    Args:
      path: the file.
      first_step: step at which the run resumes. Lines of later steps, which the run will write
        again, and an incomplete last line are dropped.

    Raises:
      UserError: the file cannot be read or written.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        rows = files.read_json_lines(path) if path.exists() else []
        earlier = [row for row in rows if _step(row) <= first_step]
        self._path = files.write_text(path, "".join(map(_line, earlier)))
        with write_errors(path):
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends one line."""
        numbers = {name: _shortest(value) for name, value in scalars.items()}
        with write_errors(self._path):
            self._file.write(_line({"step": int(step), **numbers}))
            self._file.flush()

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Does nothing: TensorBoard only."""

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Does nothing: TensorBoard only."""

    def flush(self) -> None:
        """Returns once everything written is on disk."""
        with write_errors(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes the file."""
        if not self._file.closed:
            self.flush()
            self._file.close()


def _step(row: Mapping[str, Any]) -> float:
    step = row.get("step", 0)
    return step if isinstance(step, (int, float)) else math.inf  # not ours: dropped


def _shortest(value: Any) -> float | None:
    """Returns 0.1 for float32(0.1), not 0.10000000149011612; None for NaN and infinity."""
    number = np.asarray(value)
    exact = float(str(number)) if number.dtype == np.float32 else float(number)
    return exact if math.isfinite(exact) else None


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
