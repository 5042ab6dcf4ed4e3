"""Where metrics go: TensorBoard's event files and metrics.jsonl, without TensorFlow.

The methods have CLU's names and signatures, so that its writers can be swapped in;
CLU's own TensorBoard writer imports TensorFlow. Drawing is done in `report.plots`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.text.summary_v2 import text_pb

# The record format alone: tensorboard's EventFileWriter around it imports TensorFlow
# where that is installed.
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.report import png

_BUCKETS = 30  # TensorBoard's own default
_EVENT_FILE = "events.out.tfevents."


class Writer(Protocol):
    """What training needs of a writer; CLU's MetricWriter has it too."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes pictures per name: uint8[N, H, W, C] or uint8[H, W, C]."""

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown per name."""

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

    Raises:
      UserError: the file cannot be written; so do all methods.
    """

    def __init__(self, folder: Path, continues_at: int | None = None) -> None:
        with _said_of(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._path = _next_event_file(folder)
            self._file = open(self._path, "xb")  # noqa: SIM115 - lives as long as the writer
        self._records = RecordWriter(self._file)
        self._add(event_pb2.Event(file_version="brain.Event:2"))
        if continues_at is not None:
            # Every sitting says where it starts: TensorBoard takes a run's first START
            # for its beginning, and drops later steps only at the ones that follow.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(event_pb2.Event(step=continues_at + 1, session_log=start))
        self.flush()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""
        # The plain form: TensorBoard's and everybody else's readers know it as a scalar.
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=float(value))
            for name, value in scalars.items()
        ]
        self._add_summary(step, summary_pb2.Summary(value=values))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes pictures per name: uint8[N, H, W, C] or uint8[H, W, C], RGB or grey."""
        metadata = image_metadata.create_summary_metadata(display_name=None, description=None)
        for name, pictures in images.items():
            batch = pictures if np.ndim(pictures) == 4 else np.asarray(pictures)[None]
            height, width = batch.shape[1:3]
            strings = [b"%d" % width, b"%d" % height, *map(png.encode, batch)]
            tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=strings)
            tensor.tensor_shape.dim.add(size=len(strings))
            value = summary_pb2.Summary.Value(tag=name, metadata=metadata, tensor=tensor)
            self._add_summary(step, summary_pb2.Summary(value=[value]))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown per name."""
        for name, text in texts.items():
            self._add_summary(step, text_pb(name, text))

    def write_histograms(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        num_buckets: Mapping[str, int] | None = None,
    ) -> None:
        """Writes the distribution of the finite numbers of an array of any shape per name."""
        metadata = histogram_metadata.create_summary_metadata(display_name=None, description=None)
        for name, array in arrays.items():
            # TensorBoard's own bucketing makes 30 bytes of every number.
            finite = np.ravel(array)[np.isfinite(np.ravel(array))].astype(np.float64)
            counts, edges = np.histogram(finite, (num_buckets or {}).get(name, _BUCKETS))
            tensor = make_tensor_proto(np.stack([edges[:-1], edges[1:], counts], axis=1))
            value = summary_pb2.Summary.Value(tag=name, metadata=metadata, tensor=tensor)
            self._add_summary(step, summary_pb2.Summary(value=[value]))

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes the run's settings for the comparison of runs; what is unset is left out."""
        known = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in hparams.items()
            if value is not None
        }
        self._add_summary(0, hparams_summary.hparams_pb(known))

    def flush(self) -> None:
        """Returns when everything written is on disk."""
        with _said_of(self._path):
            self._records.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and frees the file."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def _add_summary(self, step: int, summary: summary_pb2.Summary) -> None:
        self._add(event_pb2.Event(step=step, summary=summary))

    def _add(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        with _said_of(self._path):
            self._records.write(event.SerializeToString())


class JsonLinesWriter:
    """Appends one JSON object per step to a file: {"step": 20, "train/loss": 1.9, ...}.

    Numbers have the fewest digits that give the same value back; NaN and infinity,
    which JSON does not have, become null. Every line is handed to the system at once,
    so that a kill loses none and whoever follows the file sees whole lines.

    Args:
      path: of the file.
      first_step: when a run continues, the step it continues at: lines of later steps,
        which the run will write again, and a half-written last line are dropped.

    Raises:
      UserError: the file cannot be read or written.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        rows = files.read_json_lines(path) if path.exists() else []
        kept = [row for row in rows if row.get("step", 0) <= first_step]
        self._path = files.write_text(path, "".join(map(_line, kept)))
        with _said_of(path):
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - as above

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends a line."""
        numbers = {name: _shortest(value) for name, value in scalars.items()}
        with _said_of(self._path):
            self._file.write(_line({"step": int(step), **numbers}))
            self._file.flush()

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Leaves them to TensorBoard."""

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Leaves them to TensorBoard."""

    def flush(self) -> None:
        """Returns when everything written is on disk."""
        with _said_of(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and frees the file."""
        if not self._file.closed:
            self.flush()
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

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes pictures where they can be seen."""
        for writer in self._writers:
            writer.write_images(step, images)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown where it can be read."""
        for writer in self._writers:
            writer.write_texts(step, texts)

    def flush(self) -> None:
        """Flushes all."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Closes all."""
        for writer in self._writers:
            writer.close()


def _next_event_file(folder: Path) -> Path:
    """A name that sorts behind all event files of the folder.

    Readers take files in the order of their names, which begin with the time; a clock
    that was set back, or two sittings in one second, must not change that order.
    """
    taken = [path.name.removeprefix(_EVENT_FILE)[:10] for path in folder.glob(f"{_EVENT_FILE}*")]
    latest = max((int(text) for text in taken if text.isdigit()), default=0)
    second = max(int(time.time()), latest + 1)
    return folder / f"{_EVENT_FILE}{second:010d}.{socket.gethostname()}.{os.getpid()}.0"


@contextlib.contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"expected to write {path}, found: {error.strerror or error}; free some space or "
            "choose a --workdir that you may write, and start again: the run continues"
        ) from error


def _shortest(value: Any) -> float | None:
    """0.1 for float32(0.1), not 0.10000000149011612; None where it is not finite."""
    number = np.asarray(value)
    exact = float(str(number)) if number.dtype == np.float32 else float(number)
    return exact if math.isfinite(exact) else None


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
