"""Renders a whole set into a folder, in parallel, and takes up where it was killed.

The unit of work is one person, written as one archive. A rerun renders only
what is missing. The bytes do not depend on the number of workers.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import process as futures_process

import cv2

from fer_jax import errors
from tfds_builders.synthface import archive
from tfds_builders.synthface.spec import Spec
from tfds_builders.synthface.subject import render_subject

_ABANDONED = 3600  # seconds after which a temporary file is nobody's
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def subject_file(folder: pathlib.Path, index: int) -> pathlib.Path:
    """Where `generate` puts person number `index`."""
    return folder / f"{index:05d}.zip"


def subject_records(spec: Spec, index: int) -> list[archive.Record]:
    """Person number `index`, rendered and compressed."""
    return [archive.encode(face, spec.jpeg_quality) for face in render_subject(spec, index)]


def read(spec: Spec, folder: pathlib.Path) -> Iterator[archive.Record]:
    """Yields all records of a set that `generate` has put into `folder`."""
    for index in range(spec.subjects):
        yield from archive.read(subject_file(folder, index))


def _render_to_file(spec: Spec, index: int, path: pathlib.Path) -> int:
    archive.write(path, subject_records(spec, index))
    return spec.images_per_subject


def _start_worker() -> None:
    cv2.setNumThreads(1)


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Workers started inside use one thread each: they already fill the cores."""
    before = {name: os.environ.get(name) for name in _BLAS_THREADS}
    os.environ.update(dict.fromkeys(_BLAS_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _missing(spec: Spec, folder: pathlib.Path) -> list[int]:
    """People not yet rendered; a file cut short by a power failure counts as missing."""
    for file in folder.glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _ABANDONED:
                file.unlink()
    return [i for i in range(spec.subjects) if not zipfile.is_zipfile(subject_file(folder, i))]


def _render(spec: Spec, folder: pathlib.Path, missing: list[int], workers: int) -> Iterator[int]:
    """Yields the number of pictures of each finished person, in any order."""
    if workers == 1 or len(missing) == 1:
        for index in missing:
            yield _render_to_file(spec, index, subject_file(folder, index))
        return
    # Spawned, not forked: a fork after JAX has started may hang.
    context = multiprocessing.get_context("spawn")
    with (
        _one_blas_thread(),
        concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker) as pool,
    ):
        jobs = [
            pool.submit(_render_to_file, spec, index, subject_file(folder, index))
            for index in missing
        ]
        try:
            for job in concurrent.futures.as_completed(jobs):
                yield job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _watch(done: Iterator[int], total: int, title: str, show: bool) -> None:
    """Consumes `done` (pictures finished) behind a bar with pictures a second and time left."""
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
        for pictures in done:
            count += pictures
            rate = count / max(time.monotonic() - started, 1e-3)
            bar.update(task, completed=count, rate=rate)


def generate(
    spec: Spec,
    out_dir: str | os.PathLike[str],
    workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Renders `spec` into a folder of its own in `out_dir`, which is returned.

    Args:
      spec: what to render.
      out_dir: made if missing.
      workers: processes; None takes one for each core.
      progress: show a bar.

    Raises:
      UserError: `out_dir` cannot be written, or worker processes die.
    """
    folder = pathlib.Path(out_dir) / spec.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = _missing(spec, folder)
        if missing:
            workers = min(workers or os.cpu_count() or 1, len(missing))
            total = len(missing) * spec.images_per_subject
            done = _render(spec, folder, missing, workers)
            _watch(done, total, f"rendering {spec.name}", progress)
    except OSError as error:
        raise errors.UserError(
            f"expected a folder to render faces into, found {folder} not writable ({error}); "
            "name another one or free some space"
        ) from None
    except futures_process.BrokenProcessPool:
        raise errors.UserError(
            "expected worker processes to live, found one dead: out of memory, or started from a "
            'script without an `if __name__ == "__main__"` guard; render with workers=1, or add '
            "the guard. What was rendered so far is kept"
        ) from None
    return folder
