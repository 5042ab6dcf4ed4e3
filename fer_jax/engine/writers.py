"""Where metrics go: TensorBoard's event files and metrics.jsonl, without TensorFlow.

The methods have CLU's names and signatures, so that its writers can be swapped in;
CLU's own TensorBoard writer imports TensorFlow.
"""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from fer_jax import files

# TensorBoard looks for this module to learn that it must not import an installed TensorFlow;
# it looks when the first file is opened.
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))


class Writer(Protocol):
    """What training needs of a writer; CLU's MetricWriter has it too."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""

    def flush(self) -> None:
        """Returns when everything written is on disk."""

    def close(self) -> None:
        """Flushes and frees the file."""


class TensorBoardWriter:
    """Writes what TensorBoard shows.

    Args:
      folder: gets one more event file.
      continues_at: the step a training run begins or continues at (0 at the start);
        TensorBoard drops what earlier files of the folder say of later steps. None
        adds to what is there.
    """

    def __init__(self, folder: Path, continues_at: int | None = None) -> None:
        self._file = EventFileWriter(str(folder))
        if continues_at is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(event_pb2.Event(step=continues_at + 1, session_log=start))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""
        for name, value in scalars.items():
            self._add_summary(step, scalar_pb(name, float(value)))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes uint8[N, H, W, 3] RGB pictures per name."""
        for name, pictures in images.items():
            height, width = pictures.shape[1:3]
            encoded = [_png(picture) for picture in pictures]
            strings = [str(width).encode(), str(height).encode(), *encoded]
            metadata = image_metadata.create_summary_metadata(
                display_name=None, description=None, converted_to_tensor=True
            )
            tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=strings)
            tensor.tensor_shape.dim.add(size=len(strings))
            value = summary_pb2.Summary.Value(tag=name, metadata=metadata, tensor=tensor)
            self._add_summary(step, summary_pb2.Summary(value=[value]))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown per name."""
        for name, text in texts.items():
            self._add_summary(step, text_pb(name, text))

    def write_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the distribution of an array of any shape per name."""
        for name, array in arrays.items():
            self._add_summary(step, histogram_pb(name, np.ravel(array)))

    def write_hparams(self, values: Mapping[str, Any]) -> None:
        """Writes the run's settings for the comparison of runs; what is unset is left out."""
        known = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in values.items()
            if value is not None
        }
        self._add_summary(0, hparams.hparams_pb(known))

    def flush(self) -> None:
        """Returns when everything written is on disk."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and frees the file."""
        self._file.close()

    def _add_summary(self, step: int, summary: summary_pb2.Summary) -> None:
        self._add(event_pb2.Event(step=step, summary=summary))

    def _add(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._file.add_event(event)


class JsonLinesWriter:
    """Appends one JSON object per step to a file: {"step": 20, "train/loss": 1.9, ...}.

    Args:
      path: of the file.
      first_step: when a run continues, the step it continues at: lines of later steps,
        which the run will write again, and a half-written last line are dropped.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        kept = [row for row in _read_rows(path) if row["step"] <= first_step]
        files.write_text(path, "".join(map(_line, kept)))
        self._file = path.open("a", encoding="utf-8")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends a line."""
        numbers = {name: float(value) for name, value in scalars.items()}
        self._file.write(_line({"step": step, **numbers}))
        self._file.flush()  # whoever follows the file sees whole lines at once

    def flush(self) -> None:
        """Nothing waits: every line is handed to the system when it is written."""

    def close(self) -> None:
        """Frees the file."""
        self._file.close()


class MultiWriter:
    """Writes the same numbers with several writers, and closes them together."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = tuple(writers)

    def __enter__(self) -> MultiWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""
        for writer in self._writers:
            writer.write_scalars(step, scalars)

    def flush(self) -> None:
        """Flushes all."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Closes all."""
        for writer in self._writers:
            writer.close()


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, oldest first; [] if there is none."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:  # a kill in the middle of a write leaves half a line
            continue
        rows.append(row)
    return rows


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _png(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])
