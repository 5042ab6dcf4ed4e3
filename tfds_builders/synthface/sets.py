"""Renders a set into a folder, in parallel; a rerun resumes an interrupted one.

The unit of work is one person, written as one archive. The bytes do not depend on
the number of workers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import time
import zipfile
from collections.abc import Callable, Iterator

from fer_jax import errors
from fer_jax.executor import Executor, cores
from tfds_builders.synthface import archive
from tfds_builders.synthface.spec import Spec
from tfds_builders.synthface.subject import render_subject

_STALE = 3600  # seconds after which a temporary file belongs to no running process


def subject_file(folder: pathlib.Path, index: int) -> pathlib.Path:
    """Returns the path of the archive of person `index`."""
    return folder / f"{index:05d}.zip"


def subject_records(spec: Spec, index: int) -> list[archive.Record]:
    """Renders and compresses person `index`."""
    return [archive.encode(face, spec.jpeg_quality) for face in render_subject(spec, index)]


def read(spec: Spec, folder: pathlib.Path) -> Iterator[archive.Record]:
    """Yields all records that `generate` wrote to `folder`."""
    for index in range(spec.subjects):
        yield from archive.read(subject_file(folder, index))


def _renderer(spec: Spec, folder: pathlib.Path) -> Callable[[int], int]:
    """Returns what renders a person into an archive, and returns the number of images."""

    def render(index: int) -> int:
        archive.write(subject_file(folder, index), subject_records(spec, index))
        return spec.images_per_subject

    return render


def _missing(spec: Spec, folder: pathlib.Path) -> list[int]:
    """Indices of the people to render; a truncated archive counts as missing."""
    for file in folder.glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _STALE:
                file.unlink()
    return [i for i in range(spec.subjects) if not zipfile.is_zipfile(subject_file(folder, i))]


def _show_progress(done: Iterator[int], total: int, title: str, show: bool) -> None:
    """Consumes `done` (image counts) and shows a progress bar with images/s and remaining time."""
    from rich import console, progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]:.1f} faces/s"),
        progress.TimeRemainingColumn(),
    )
    started, count = time.monotonic(), 0
    stderr = console.Console(stderr=True)
    with progress.Progress(*columns, console=stderr, disable=not show) as bar:
        task = bar.add_task(title, total=total, rate=0.0)
        for images in done:
            count += images
            rate = count / max(time.monotonic() - started, 1e-3)
            bar.update(task, completed=count, rate=rate)


def generate(
    spec: Spec,
    out_dir: str | os.PathLike[str],
    workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Renders `spec` into the folder `out_dir / spec.folder`.

    Args:
      spec: what to render.
      out_dir: created if missing.
      workers: number of processes; None means one per core.
      progress: whether to show a progress bar.

    Returns:
      The folder.

    Raises:
      UserError: `out_dir` cannot be written, or worker processes die again and again.
    """
    folder = pathlib.Path(out_dir) / spec.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = _missing(spec, folder)
        if missing:
            workers = min(workers or cores(), len(missing))
            total = len(missing) * spec.images_per_subject
            executor = Executor(workers, processes=workers > 1)
            make = functools.partial(_renderer, spec, folder)
            with contextlib.closing(executor.map(make, missing)) as done:
                _show_progress(done, total, f"rendering {spec.name}", progress)
    except OSError as error:
        raise errors.UserError(
            f"expected a folder to render faces into, found {folder} not writable ({error}); "
            "choose another folder or free disk space"
        ) from None
    return folder
