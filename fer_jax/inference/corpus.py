"""Predicts a corpus of photos into shards of a table, in bounded memory and resumable.

    _corpus.json                 what the shards are made of
    shard-000000.parquet ...     1,000 photos each, one row per face; or .csv

Each shard is written whole. Started again, a prediction goes on behind the shards that exist. The
order of the rows is that of the inputs, for any number of workers. Draws nothing and reads no
videos: `predict` does.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import fer_jax
from fer_jax import buckets, files, plugins, working_copy
from fer_jax.errors import UserError
from fer_jax.executor import Executor
from fer_jax.faces.decode import MAX_BYTES, SUFFIXES, UnreadableError, decode, read_image
from fer_jax.faces.finder import FaceFinder, LocatedFace
from fer_jax.inference import sources
from fer_jax.inference.model import Model
from fer_jax.inference.results import FRAME_COLUMNS
from fer_jax.inference.stream import PredictOptions
from fer_jax.monitor.console import ProgressBar, clock_text
from fer_jax.printable import csv_text, printable
from fer_jax.run_dir import Run
from fer_jax.runtime import compile_cache

KINDS = ("parquet", "csv")
"""Kinds of shards: their suffixes."""

SHARD = 1_000
"""Photos in a shard, at most: what a killed prediction does again."""

PIECE = 32  # photos that a worker predicts at a time
_MANIFEST = "_corpus.json"
_COLUMN = "path"  # of a table of photos
_PHOTO = ("source", "bytes", "error")
_INTEGERS = ("bytes", "face", "x", "y", "width", "height")
_ERROR, _FOUND = 2, 8  # columns

Row = list[Any]


def list_photos(
    inputs: Sequence[str], out: Path, ignored: collections.Counter[str] | None = None
) -> Iterator[str]:
    """Yields the paths of the photos in files, folders and tables, in order.

    Args:
      inputs: image files; folders, with their subfolders; and tables (.csv, .parquet) with a
        column "path", whose relative paths start at the table's folder. All may be in buckets.
      out: the output folder, which is no input.
      ignored: counts the other files in folders, by kind.

    Raises:
      UserError: an input that does not exist, or a table that cannot be used.
    """
    ignored = collections.Counter() if ignored is None else ignored
    for argument in inputs:
        path = buckets.path_or_url(argument)
        if isinstance(path, str):
            yield from _list_bucket(path, ignored)
        elif path.is_dir():
            for found in sources.walk(path, out):
                if isinstance(found, sources.Source) and found.kind == "picture":
                    yield found.name
                else:
                    ignored["video" if isinstance(found, sources.Source) else found[1]] += 1
        elif path.suffix.lower() in (".csv", ".parquet") and path.is_file():
            for name in _read_table(path):
                place = buckets.path_or_url(name)
                yield place if isinstance(place, str) else os.path.join(path.parent, place)
        elif path.is_file():
            yield argument
        else:
            raise UserError(
                f"expected a photo, a folder or a table of paths, found nothing at {argument}; "
                "check the path"
            )


def _list_bucket(url: str, ignored: collections.Counter[str]) -> Iterator[str]:
    """Yields the URLs of the photos at a URL: of a table, a photo, or a folder."""
    if url.lower().endswith((".csv", ".parquet")):
        for name in _read_table(buckets.read_only(url)):
            place = buckets.path_or_url(name)
            is_relative = isinstance(place, Path) and not place.is_absolute()
            yield f"{url.rpartition('/')[0]}/{name}" if is_relative else name
        return
    for found in buckets.list_urls(url):
        suffix = os.path.splitext(found)[1].lower()
        if found == url or suffix in SUFFIXES:
            yield found
        else:
            kind = "video" if suffix in sources.VIDEO_SUFFIXES else suffix or "without suffix"
            ignored[kind] += 1


@dataclasses.dataclass
class Counts:
    """What one prediction read: photos, faces that were detected, and unreadable photos."""

    photos: int = 0
    faces: int = 0
    unreadable: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Counts the rows of a photo."""
        self.photos += 1
        self.unreadable += bool(rows[0][_ERROR])
        self.faces += sum(row[_FOUND] not in ("", "whole") for row in rows)


def predict(
    run: Run, inputs: Sequence[str], out: Path, options: PredictOptions, kind: str,
    executor: Executor,
) -> Iterator[str]:  # fmt: skip
    """Predicts the photos that `out` has no shards of yet, and yields lines that sum it up.

    Args:
      run: a trained run.
      inputs: as for `list_photos`.
      out: folder of the shards, created if missing.
      options: which faces to classify.
      kind: one of `KINDS`.
      executor: who predicts.

    Raises:
      UserError: no photos, `out` has shards of something else, or it cannot be written.
    """
    ignored: collections.Counter[str] = collections.Counter()
    digest, total = hashlib.sha256(), 0
    for name in list_photos(inputs, out, ignored):
        digest.update(os.fsencode(name) + b"\0")
        total += 1
    others = ", ".join(f"{count:,} {what}" for what, count in ignored.most_common())
    if not total:
        raise UserError(f"expected photos in {', '.join(inputs)}, found {others or 'none'}")
    model = Model(run)
    made_of = {
        "format": 1, "version": fer_jax.__version__, "run": run.name,
        "model": model.classifier.digest[:16], "labels": list(run.labels),
        **({"heads": list(run.heads.columns)} if run.heads.names else {}),
        "options": dataclasses.asdict(options), "kind": kind, "photos": total,
        "paths_sha256": digest.hexdigest(), "photos_per_shard": SHARD,
    }  # fmt: skip
    names = [f"shard-{first // SHARD:06}.{kind}" for first in range(0, total, SHARD)]
    shards = dict.fromkeys((out / name for name in names), SHARD)
    shards[out / names[-1]] = total - SHARD * (len(names) - 1)
    with _owned(out, made_of):
        missing = {path: count for path, count in shards.items() if not path.exists()}
        pieces = _pieces(list_photos(inputs, out), shards, missing)
        work = functools.partial(
            _predictor, run, buckets.origin(run.folder), options, plugins.named_for(run.plugins)
        )
        with contextlib.closing(executor.map(work, pieces)) as results:
            counts = _write_all(missing, itertools.chain.from_iterable(results), made_of)
    before = total - counts.photos
    yield f"{counts.faces:,} faces in {counts.photos:,} photos" + (
        f"; {before:,} photos were done before" * bool(before)
    )
    if counts.unreadable:
        yield f"{counts.unreadable:,} photos could not be read: their rows have an error"
    if others:
        yield f"not read, as no photos: {others}"
    yield f"{total:,} photos in {len(shards):,} files: {buckets.origin(out)}"


def _pieces(
    photos: Iterator[str], shards: Mapping[Path, int], missing: Mapping[Path, int]
) -> Iterator[list[str]]:
    """Yields the photos of the missing shards, a few at a time."""
    for path, count in shards.items():
        names = list(itertools.islice(photos, count))
        if len(names) < count:
            raise UserError(
                "expected the inputs to stay as they are, found fewer photos than at the start; "
                "wait until they are complete, and choose another --out"
            )
        if path in missing:
            yield from (names[first : first + PIECE] for first in range(0, count, PIECE))


def _write_all(
    missing: Mapping[Path, int], results: Iterator[list[Row]], made_of: Mapping[str, Any]
) -> Counts:
    """Writes each shard when the rows of its last photo are there."""
    counts, total, start = Counts(), sum(missing.values()), time.monotonic()
    with ProgressBar(total, "starting workers") as progress:
        for path, photos in missing.items():
            rows: list[Row] = []
            for of_photo in itertools.islice(results, photos):
                counts.add(of_photo)
                rows += of_photo
                rate = counts.photos / max(time.monotonic() - start, 1e-9)
                is_known = counts.photos > PIECE  # the first piece includes the workers' start
                left = f"{clock_text((total - counts.photos) / rate)} left" * is_known
                unreadable = f"{counts.unreadable:,} unreadable" * bool(counts.unreadable)
                progress.update(counts.photos, f"{rate:,.1f} photos/s", left, unreadable)
            write_shard(path, rows, made_of)
            working_copy.push_due()
    return counts


def _predictor(
    run: Run, place: str, options: PredictOptions, own_parts: Sequence[str]
) -> Callable[[list[str]], list[list[Row]]]:
    """Returns what predicts a few photos: the rows of each.

    If the run's place is a URL, a worker on another machine has no copy yet.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # of Orbax, in a process of its own
    plugins.load(own_parts)
    if buckets.is_url(place):
        run = dataclasses.replace(run, folder=buckets.read_only(place))
    compile_cache.enable()
    model = Model(run)
    finder = FaceFinder(model.framing, options.min_share, options.detector)

    def find(name: str) -> tuple[list[LocatedFace], int | None, str]:
        size = None
        try:
            image, size = _read(name)
            return finder.find(image, options.faces, options.whole_image), size, ""
        except (UnreadableError, cv2.error, MemoryError) as error:
            size = size or _size(name)
            return [], size, str(error).strip().split("\n")[0] or "not enough memory"

    def predict_piece(names: list[str]) -> list[list[Row]]:
        found = [find(name) for name in names]
        every = [face for located, _, _ in found for face in located]
        faces = iter(model.classify(every, threshold=options.abstain))
        results = []
        for name, (located, size, error) in zip(names, found, strict=True):
            photo = [printable(name), size, printable(error)]
            rows = [
                [
                    *photo,
                    number,
                    *face.box,
                    face.found,
                    face.label,
                    *face.probabilities.values(),
                    *face.further.values(),
                ]
                for number, face in enumerate(itertools.islice(faces, len(located)))
            ]
            empty = [None] * 5 + ["", ""] + [None] * model.run.heads.outputs
            results.append(rows or [[*photo, *empty]])
        return results

    return predict_piece


def _read(name: str) -> tuple[np.ndarray, int | None]:
    """Reads a photo, uint8[H, W, 3] RGB, and its size in bytes.

    Raises:
      UnreadableError: it cannot be read.
    """
    if not buckets.is_url(name):
        return read_image(Path(name)), _size(name)
    try:
        content = buckets.read_bytes(name, MAX_BYTES)
    except UserError as error:
        raise UnreadableError(str(error)) from error
    if content is None:
        raise UnreadableError(f"larger than {MAX_BYTES // 1_000_000} MB")
    return decode(content), len(content)


def _size(name: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.path.getsize(name)
    return None


def write_shard(path: Path, rows: Sequence[Row], made_of: Mapping[str, Any]) -> None:
    """Writes a shard as a whole.

    Args:
      path: of the file.
      rows: of its photos, without the last two columns.
      made_of: labels, heads, kind, model and version, as in the manifest.
    """
    probabilities = [f"probability_{printable(label)}" for label in made_of["labels"]]
    further = map(printable, made_of.get("heads", ()))
    names = [*_PHOTO, *FRAME_COLUMNS[1:], *probabilities, *further, "model", "version"]
    full = [[*row, made_of["model"], made_of["version"]] for row in rows]
    buffer = io.BytesIO()
    if made_of["kind"] == "csv":
        text = io.TextIOWrapper(buffer, "utf-8", newline="", write_through=True)
        table = csv.writer(text)
        table.writerow(names)
        table.writerows([_cell(value) for value in row] for row in full)
    else:
        import pyarrow
        from pyarrow import parquet

        texts = {"source", "error", "found", "label", "model", "version"}
        types = {name: pyarrow.string() for name in texts}
        types |= {name: pyarrow.int64() for name in _INTEGERS}
        columns = [
            pyarrow.array(column, types.get(name, pyarrow.float32()))
            for name, column in zip(names, zip(*full, strict=True), strict=True)
        ]
        parquet.write_table(pyarrow.table(columns, names=names), buffer)
    files.write_bytes(path, buffer.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return csv_text(value)
    return f"{value:.6f}" if isinstance(value, float) else value


@contextlib.contextmanager
def _owned(out: Path, made_of: dict[str, Any]) -> Iterator[None]:
    """Locks the folder for this process, and checks that its shards are made of the same."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / ".lock", "w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(
            f"expected to write results in {out}, found: {error.strerror or error}; choose "
            "another folder with --out"
        ) from error
    with lock:
        if not files.lock(lock.fileno(), out / ".lock", wait=False):
            raise UserError(f"another process predicts into {out}; wait for it")
        for rest in out.glob(f".shard-*.{made_of['kind']}.*.tmp"):  # of a killed process
            rest.unlink()
        manifest = out / _MANIFEST
        if manifest.exists():
            stored = json.loads(manifest.read_text(encoding="utf-8"))
            different = [name for name in made_of if stored.get(name) != made_of[name]]
            if different:
                changes = "; ".join(
                    f"{name} {stored.get(name)} then, {made_of[name]} now" for name in different
                )
                raise UserError(
                    f"expected {out} to have results of the same photos, model and flags, found "
                    f"{changes}; choose another --out"
                )
        files.write_text(manifest, json.dumps(made_of, indent=2))
        yield


def _read_table(path: Path) -> Iterator[str]:
    """Yields the column of paths of a table.

    Raises:
      UserError: it cannot be read, or has no such column.
    """
    try:
        if path.suffix.lower() == ".csv":
            with open(path, encoding="utf-8-sig", newline="") as file:
                yield from (row[_COLUMN] for row in csv.DictReader(file))
        else:
            from pyarrow import parquet

            for batch in parquet.ParquetFile(path).iter_batches(1024, columns=[_COLUMN]):
                yield from batch[_COLUMN].to_pylist()
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(
            f"expected a table with a column {_COLUMN!r} in {path}, found none that can be read "
            f"({type(error).__name__}: {error}); name the column so"
        ) from error
