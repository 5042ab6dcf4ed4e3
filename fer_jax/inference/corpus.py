"""Predicts photos and videos into shards of a table, in bounded memory and resumable.

    _corpus.json                 what the shards are made of
    shard-000000.parquet ...     1,000 photos and frames each, one row per face; or .csv

Each shard is written whole. Started again, a prediction goes on behind the shards that exist. The
order of the rows is that of the inputs, for any number of workers. Draws nothing and follows nobody
through a video: `predict` does.
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
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import fer_jax
from fer_jax import buckets, files, plugins, working_copy
from fer_jax.errors import UserError
from fer_jax.executor import Executor
from fer_jax.faces.decode import SUFFIXES
from fer_jax.inference import segments, sources
from fer_jax.inference.corpus_worker import PIECE, Item, Result, Row, Worker, no_face
from fer_jax.inference.model import Model
from fer_jax.inference.results import FRAME_COLUMNS
from fer_jax.inference.segments import Joiner, Part, Segment
from fer_jax.inference.stream import PredictOptions
from fer_jax.monitor.console import ProgressBar, clock_text
from fer_jax.printable import csv_text, printable
from fer_jax.run_dir import Run

KINDS = ("parquet", "csv")
"""Kinds of shards: their suffixes."""

SHARD = 1_000
"""Photos and frames in a shard, at most: what a killed prediction does again. Also the frames of a
segment of a video."""

_MANIFEST = "_corpus.json"
_COLUMN = "path"  # of a table of photos
_IMAGE = ("source", "bytes", "error", "frame", "seconds")
_INTEGERS = ("bytes", "frame", "face", "x", "y", "width", "height")
_ERROR, _FRAME, _FOUND = 2, 3, 10  # columns


def list_files(
    inputs: Sequence[str], out: Path, ignored: collections.Counter[str] | None = None
) -> Iterator[str]:
    """Yields the paths of the photos and videos in files, folders and tables, in order.

    Args:
      inputs: images and videos; folders, with their subfolders; and tables (.csv, .parquet) with a
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
                if isinstance(found, sources.Source):
                    yield found.name
                else:
                    ignored[found[1]] += 1
        elif path.suffix.lower() in (".csv", ".parquet") and path.is_file():
            for name in _read_table(path):
                place = buckets.path_or_url(name)
                yield place if isinstance(place, str) else os.path.join(path.parent, place)
        elif path.is_file():
            yield argument
        else:
            raise UserError(
                "expected a photo, a video, a folder or a table of paths, found nothing at "
                f"{argument}; check the path"
            )


def _list_bucket(url: str, ignored: collections.Counter[str]) -> Iterator[str]:
    """Yields the URLs of the photos and videos at a URL: of a table, a file, or a folder."""
    if url.lower().endswith((".csv", ".parquet")):
        for name in _read_table(buckets.read_only(url)):
            place = buckets.path_or_url(name)
            is_relative = isinstance(place, Path) and not place.is_absolute()
            yield f"{url.rpartition('/')[0]}/{name}" if is_relative else name
        return
    for found in buckets.list_urls(url):
        suffix = os.path.splitext(found)[1].lower()
        if found == url or suffix in SUFFIXES | sources.VIDEO_SUFFIXES:
            yield found
        else:
            ignored[suffix or "without suffix"] += 1


def _list_items(
    inputs: Sequence[str], out: Path, ignored: collections.Counter[str] | None = None
) -> Iterator[Item]:
    """Yields the photos and the segments of videos in `inputs`, in order; see `list_files`."""
    for name in list_files(inputs, out, ignored):
        if os.path.splitext(name)[1].lower() in sources.VIDEO_SUFFIXES:
            yield from segments.cut(name, SHARD)
        else:
            yield name


@dataclasses.dataclass
class Counts:
    """What one prediction read: photos, segments of videos and their frames, faces, and errors.

    Attributes:
      photos: number of photos.
      segments: number of segments.
      frames: number of frames in them.
      faces: faces that were detected.
      unreadable: photos and segments with an error.
    """

    photos: int = 0
    segments: int = 0
    frames: int = 0
    faces: int = 0
    unreadable: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Counts the rows of a photo or a segment."""
        self.unreadable += any(row[_ERROR] for row in rows)
        self.faces += sum(row[_FOUND] not in ("", "whole") for row in rows)


@dataclasses.dataclass
class _Shard:
    """How many photos and segments of videos a shard has, and photos and frames."""

    items: int = 0
    images: int = 0


def predict(
    run: Run, inputs: Sequence[str], out: Path, options: PredictOptions, kind: str,
    executor: Executor,
) -> Iterator[str]:  # fmt: skip
    """Predicts the photos and videos that `out` has no shards of yet, and yields a summary's lines.

    Args:
      run: a trained run.
      inputs: as for `list_files`.
      out: folder of the shards, created if missing.
      options: which faces to classify.
      kind: one of `KINDS`.
      executor: who predicts.

    Raises:
      UserError: no photos, `out` has shards of something else, or it cannot be written.
    """
    ignored: collections.Counter[str] = collections.Counter()
    total, digest, plan = _plan(_list_items(inputs, out, ignored))
    others = ", ".join(f"{count:,} {what}" for what, count in ignored.most_common())
    if not plan:
        raise UserError(
            f"expected photos or videos in {', '.join(inputs)}, found {others or 'none'}"
        )
    model = Model(run)
    made_of = {
        "format": 2, "version": fer_jax.__version__, "run": run.name,
        "model": model.classifier.digest[:16], "labels": list(run.labels),
        **({"heads": list(run.heads.columns)} if run.heads.names else {}),
        "options": dataclasses.asdict(options), "kind": kind, "photos": total.photos,
        "segments": total.segments, "paths_sha256": digest, "images_per_shard": SHARD,
    }  # fmt: skip
    shards = {out / f"shard-{number:06}.{kind}": shard for number, shard in enumerate(plan)}
    with _owned(out, made_of):
        missing = {path: shard for path, shard in shards.items() if not path.exists()}
        pieces = _pieces(_list_items(inputs, out), shards, missing)
        work = functools.partial(
            Worker, run, buckets.origin(run.folder), options, plugins.named_for(run.plugins)
        )

        def read_again(segment: Segment) -> Part:
            with contextlib.closing(executor.map(work, [[segment]])) as results:
                return cast("Part", next(results)[0])

        joiner = Joiner(read_again)
        with contextlib.closing(executor.map(work, pieces)) as results:
            every = itertools.chain.from_iterable(results)
            joined = (joiner.join(one) if isinstance(one, Part) else one for one in every)
            counts = _write_all(missing, joined, made_of, run.heads.outputs)
    yield from _summary(counts, total)
    if others:
        yield f"not read, as no photos or videos: {others}"
    everything = _amount(total.photos, total.segments)
    yield f"{everything} in {len(shards):,} files: {buckets.origin(out)}"


def _summary(counts: Counts, total: Counts) -> Iterator[str]:
    """Yields lines about what was read, of `total` photos and segments."""
    photos, segments_ = total.photos - counts.photos, total.segments - counts.segments
    before = f"; {_amount(photos, segments_)} were done before" * bool(photos or segments_)
    yield f"{counts.faces:,} faces in {_amount(counts.photos, counts.frames, 'frames')}{before}"
    if counts.unreadable:
        what = "photos and segments of videos" if total.segments else "photos"
        yield f"{counts.unreadable:,} {what} could not be read: their rows have an error"


def _amount(photos: int, others: int, what: str = "segments of videos") -> str:
    amounts = [f"{photos:,} photos"] * bool(photos or not others)
    return " and ".join([*amounts, *[f"{others:,} {what}"] * bool(others)])


def _plan(items: Iterable[Item]) -> tuple[Counts, str, list[_Shard]]:
    """Returns the number of photos and segments, their SHA-256, and the shards."""
    total, digest, plan = Counts(), hashlib.sha256(), list[_Shard]()
    for item in items:
        if isinstance(item, Segment):
            name, images = f"{item.name}\0{item.start}\0{item.frames}", item.frames
        else:
            name, images = item, 1
        digest.update(os.fsencode(name) + b"\0")
        total.photos += isinstance(item, str)
        total.segments += isinstance(item, Segment)
        if not plan or plan[-1].images + images > SHARD:
            plan.append(_Shard())
        plan[-1].items += 1
        plan[-1].images += images
    return total, digest.hexdigest(), plan


def _pieces(
    items: Iterator[Item], shards: Mapping[Path, _Shard], missing: Mapping[Path, _Shard]
) -> Iterator[list[Item]]:
    """Yields the photos of the missing shards, a few at a time, and their segments one by one."""
    is_behind_gap = False
    for path, shard in shards.items():
        chunk = list(itertools.islice(items, shard.items))
        if len(chunk) < shard.items:
            raise UserError(
                "expected the inputs to stay as they are, found fewer photos than at the start; "
                "wait until they are complete, and choose another --out"
            )
        if path in missing:
            if isinstance(chunk[0], Segment) and not is_behind_gap:
                # The number of its first frame is not known, as the segment before is not read.
                chunk[0] = dataclasses.replace(chunk[0], seeks=False)
            for kind, group in itertools.groupby(chunk, type):
                some, size = list(group), PIECE if kind is str else 1
                yield from (some[first : first + size] for first in range(0, len(some), size))
        is_behind_gap = path in missing


def _write_all(
    missing: Mapping[Path, _Shard], results: Iterator[Result], made_of: Mapping[str, Any],
    outputs: int,
) -> Counts:  # fmt: skip
    """Writes each shard when the rows of its last photo or segment are there."""
    counts, total = Counts(), sum(shard.images for shard in missing.values())
    start = time.monotonic()
    with ProgressBar(total, "starting workers") as progress:
        for path, shard in missing.items():
            rows: list[Row] = []
            for result in itertools.islice(results, shard.items):
                if isinstance(result, Part):
                    counts.segments += 1
                    counts.frames += result.frames
                    result = _numbered(result, outputs)
                else:
                    counts.photos += 1
                counts.add(result)
                rows += result
                done = counts.photos + counts.frames
                rate = done / max(time.monotonic() - start, 1e-9)
                is_known = done > PIECE  # the first piece includes the workers' start
                left = f"{clock_text(max(0, total - done) / max(rate, 1e-9))} left" * is_known
                unreadable = f"{counts.unreadable:,} unreadable" * bool(counts.unreadable)
                progress.update(done, f"{rate:,.1f} images/s", left, unreadable)
            write_shard(path, rows, made_of)
            working_copy.push_due()
    return counts


def _numbered(part: Part, outputs: int) -> list[Row]:
    """Returns the rows of a part with the numbers of its frames, and one for its error."""
    number = part.number or 0
    rows = [[*row[:_FRAME], number + row[_FRAME], *row[_FRAME + 1 :]] for row in part.rows]
    if part.error:
        video = [printable(part.segment.name), part.size, printable(part.error), None, None]
        rows.append([*video, *no_face(outputs)])
    return rows


def write_shard(path: Path, rows: Sequence[Row], made_of: Mapping[str, Any]) -> None:
    """Writes a shard as a whole.

    Args:
      path: of the file.
      rows: of its photos, without the last two columns.
      made_of: labels, heads, kind, model and version, as in the manifest.
    """
    probabilities = [f"probability_{printable(label)}" for label in made_of["labels"]]
    further = map(printable, made_of.get("heads", ()))
    names = [*_IMAGE, *FRAME_COLUMNS[1:], *probabilities, *further, "model", "version"]
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
        types |= {name: pyarrow.int64() for name in _INTEGERS} | {"seconds": pyarrow.float64()}
        values = zip(*full, strict=True) if full else [()] * len(names)
        columns = [
            pyarrow.array(column, types.get(name, pyarrow.float32()))
            for name, column in zip(names, values, strict=True)
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
                    f"expected {out} to have results of the same inputs, model and flags, found "
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
