"""TensorBoard event files, written without TensorFlow."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.text.summary_v2 import text_pb

# Only the record format: tensorboard's EventFileWriter imports TensorFlow if it is installed.
from tensorboard.summary.writer.record_writer import RecordWriter

from fer_jax.monitor.writers import write_errors
from fer_jax.report import png

_EVENT_FILE = "events.out.tfevents."


class TensorBoardWriter:
    """Writes scalars, images, texts and hyperparameters to a new event file.

    Args:
      folder: folder for the event file.
      continues_at: step at which training starts or resumes (0 at the start): TensorBoard then
        ignores later steps in earlier files of the folder. None only adds events.

    Raises:
      UserError: the file cannot be written; also from every method.
    """

    def __init__(self, folder: Path, continues_at: int | None = None) -> None:
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._path = _next_event_file(folder)
            self._file = open(self._path, "xb")  # noqa: SIM115 - lives as long as the writer
        self._records = RecordWriter(self._file)
        self._add(event_pb2.Event(file_version="brain.Event:2"))
        if continues_at is not None:
            # Every invocation writes a START event: TensorBoard takes the first one as the start
            # of the run and drops later steps only at the following ones.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(event_pb2.Event(step=continues_at + 1, session_log=start))
        self.flush()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""
        # `simple_value` rather than a tensor: every event reader knows it as a scalar.
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=float(value))
            for name, value in scalars.items()
        ]
        self._add_summary(step, summary_pb2.Summary(value=values))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images per name: uint8[N, H, W, C] or uint8[H, W, C], RGB or gray."""
        metadata = image_metadata.create_summary_metadata(display_name=None, description=None)
        for name, value in images.items():
            batch = value if np.ndim(value) == 4 else np.asarray(value)[None]
            height, width = batch.shape[1:3]
            strings = [b"%d" % width, b"%d" % height, *map(png.encode, batch)]
            tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=strings)
            tensor.tensor_shape.dim.add(size=len(strings))
            entry = summary_pb2.Summary.Value(tag=name, metadata=metadata, tensor=tensor)
            self._add_summary(step, summary_pb2.Summary(value=[entry]))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown per name."""
        for name, text in texts.items():
            self._add_summary(step, text_pb(name, text))

    def write_hparams(self, hparams: Mapping[str, Any], trial: str) -> None:
        """Writes hyperparameters for TensorBoard's HParams page; None values are omitted.

        Args:
          hparams: value by name.
          trial: the id that the page shows. Runs of one id count as one trial.
        """
        known = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in hparams.items()
            if value is not None
        }
        self._add_summary(0, hparams_summary.hparams_pb(known, trial_id=trial))

    def flush(self) -> None:
        """Returns once everything written is on disk."""
        with write_errors(self._path):
            self._records.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes the file."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def _add_summary(self, step: int, summary: summary_pb2.Summary) -> None:
        self._add(event_pb2.Event(step=step, summary=summary))

    def _add(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        with write_errors(self._path):
            self._records.write(event.SerializeToString())


def _next_event_file(folder: Path) -> Path:
    """Returns a name that sorts after all event files of the folder.

    Readers take files in the order of their names, which start with the time. A clock that was
    set back, or two invocations in one second, must not change that order.
    """
    taken = [path.name.removeprefix(_EVENT_FILE)[:10] for path in folder.glob(f"{_EVENT_FILE}*")]
    latest = max((int(text) for text in taken if text.isdigit()), default=0)
    second = max(int(time.time()), latest + 1)
    return folder / f"{_EVENT_FILE}{second:010d}.{socket.gethostname()}.{os.getpid()}.0"
