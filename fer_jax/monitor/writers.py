"""What training needs of a metric writer, and a writer that forwards to several.

Method names and signatures are those of CLU's MetricWriter, so that its writers fit too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from fer_jax.errors import UserError


class Writer(Protocol):
    """Writes metrics of a step; a subset of CLU's MetricWriter."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images per name: uint8[N, H, W, C] or uint8[H, W, C]."""

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown per name."""

    def flush(self) -> None:
        """Returns once everything written is on disk."""

    def close(self) -> None:
        """Flushes and closes the file."""


class MultiWriter:
    """Forwards every call to several writers."""

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
        """Writes images per name: uint8[N, H, W, C] or uint8[H, W, C]."""
        for writer in self._writers:
            writer.write_images(step, images)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown per name."""
        for writer in self._writers:
            writer.write_texts(step, texts)

    def flush(self) -> None:
        """Flushes all writers."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Closes all writers."""
        for writer in self._writers:
            writer.close()


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of writing `path` into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"expected to write {path}, found: {error.strerror or error}; free some space or "
            "choose a writable --workdir, and run the same command again to resume"
        ) from error
