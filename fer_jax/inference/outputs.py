"""Writes predictions into a folder, frame by frame, in constant memory.

    predictions.csv           one line per face and frame
    predictions.json          the same with the run, the sources and the unreadable files
    annotated/NAME.jpg .mp4   images and videos with boxes and labels
    figures/NAME_1.png        a face beside its class probabilities, for images
    tracks.csv, timelines/, timeline.html    people of videos over time, see `story`

Tables and videos are written to temporary files and renamed when complete; if writing fails, the
results of an earlier prediction remain. If it succeeds, what the earlier one wrote and this one
did not is deleted. Without a folder, faces are only counted and listed. No network is run here.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import cv2
import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.inference.draw import annotate
from fer_jax.inference.listing import Listing
from fer_jax.inference.overlay import overlay
from fer_jax.inference.results import Face, Prediction
from fer_jax.inference.smoothing import Smoothing
from fer_jax.inference.sources import OUTPUT_FOLDERS, Frame, Source, Unreadable
from fer_jax.inference.story import FILES, Story
from fer_jax.inference.timeline import Timeline
from fer_jax.printable import csv_text, printable

FORMAT = 1
"""Version of predictions.json; increased when older readers cannot read it."""

_COLUMNS = ("source", "frame", "seconds", "face", "x", "y", "width", "height", "found", "label")
_LAST_COLUMN = "annotated"  # path in the output folder, which tells files of one name apart
_JPEG_QUALITY = 92
_MAX_GAP_SECONDS = 10.0  # a longer gap between two frames is shortened
_MAX_STEM = 100  # characters; file systems take 255 bytes


class Counts:
    """What one prediction found, as a context manager; writes nothing.

    Attributes:
      faces: number of faces.
      without_face: number of frames without a face.
      sources: description of each source.
      unreadable: what could not be read.
      interrupted: whether Ctrl-C ended the prediction.
      listing: the faces, for the terminal.
    """

    def __init__(self) -> None:
        self.faces = self.without_face = 0
        self.sources: list[dict[str, Any]] = []
        self.unreadable: list[Unreadable] = []
        self.interrupted = False
        self.listing = Listing()
        self._current: Source | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Counts and lists the faces of a frame."""
        if frame.source != self._current:
            self._start_source(frame)
        faces = sum(face.found != "whole" for face in prediction.faces)
        self.sources[-1]["frames"] += 1
        self.sources[-1]["faces"] += faces
        self.faces += faces
        self.without_face += not faces
        self.listing.add(frame, prediction)

    def add_unreadable(self, unreadable: Unreadable) -> None:
        """Records a source that could not be read."""
        self.unreadable.append(unreadable)

    def _start_source(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        self._current = frame.source
        entry = {"source": frame.source.name, "kind": frame.source.kind}
        self.sources.append({**entry, "width": width, "height": height, "frames": 0, "faces": 0})
        if frame.source.kind != "picture":
            self.sources[-1]["frames_per_second"] = round(frame.rate, 3)


class Outputs(Counts):
    """The files of one prediction, as a context manager.

    Args:
      folder: created if missing; results of an earlier prediction are replaced.
      header: first entries of predictions.json, such as the run and its labels.
      label_names: class names in index order.
      max_figures: how many faces of images get a figure.
      annotate: whether to write annotated images and videos, and figures.
      ignored: files in the input folders that were not read, with the reason.
      has_videos: whether a source is a video or a camera, whose faces have tracks.
      smoothing: how the probabilities of tracks are smoothed, if they are.
      further: names in `Face.further`, of further heads.

    Raises:
      UserError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        header: dict[str, Any],
        label_names: tuple[str, ...],
        max_figures: int,
        annotate: bool = True,
        ignored: Sequence[tuple[Path, str]] = (),
        has_videos: bool = False,
        smoothing: Smoothing | None = None,
        further: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.folder, self.figures = folder, 0
        self._header, self._label_names = header, label_names
        self._max_figures, self._annotate, self._ignored = max_figures, annotate, ignored
        self._earlier: list[Path] = []
        self._names: set[str] = set()
        self._video: _Video | None = None
        self._has_videos, self._smoothing, self._further = has_videos, smoothing, further
        self._story: Story | None = None
        self._timeline: Timeline | None = None

    def __enter__(self) -> Self:
        with _write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._earlier = _earlier_files(self.folder)
            self._csv = _open_text(self.folder / "predictions.csv")
            self._json = _open_text(self.folder / "predictions.json")
            if self._has_videos:
                run, smoothing = str(self._header.get("run", "")), str(self._smoothing or "")
                labels, pictures = self._label_names, self._annotate
                self._story = Story(self.folder, run, labels, smoothing, pictures)
        self._table = csv.writer(self._csv)
        names = [printable(name) for name in self._label_names]
        columns = [*_COLUMNS, *(f"probability_{name}" for name in names), _LAST_COLUMN]
        if self._has_videos:
            columns.append("track")
        if self._smoothing:
            columns += ["smoothed_label", *(f"smoothed_{name}" for name in names)]
            self._header = {**self._header, "smoothing": self._smoothing.to_json()}
        columns += map(printable, self._further)
        self._table.writerow(columns)
        head = json.dumps({"format": FORMAT, **self._header}, indent=2)
        self._json.write(head.removesuffix("\n}") + ',\n  "frames": [')
        self._separator = "\n    "
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._discard()
            return
        with _write_errors(self.folder):
            self._finish_source()
        tail = {
            "sources": self.sources,
            "unreadable": [
                {"source": item.source.name, "reason": item.reason} for item in self.unreadable
            ],
            "ignored": [{"path": str(path), "reason": reason} for path, reason in self._ignored],
        }
        self._json.write("\n  ],\n  " + json.dumps(tail, indent=2).removeprefix("{\n  ") + "\n")
        for file in (self._csv, self._json):
            _rename_complete(file)
        if self._story:
            self._story.close()
        self._delete_earlier()

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Writes the prediction of a frame."""
        with _write_errors(self.folder):
            if frame.source != self._current:
                self._finish_source()
            super().add(frame, prediction)
            if self._annotate:
                self._add_annotated(frame, prediction)
            self._add_rows(frame, prediction)
        if self._story and frame.seconds is not None:
            self._timeline = self._timeline or Timeline(self._label_names)
            self._timeline.add(frame, prediction)

    def _finish_source(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None
        if self._story and self._timeline:
            self._timeline.finish()
            entry = self.sources[-1]
            stem = Path(entry.get("annotated", "")).stem
            entry |= self._story.add(entry["source"], stem, self._timeline)
            self._timeline = None

    def _discard(self) -> None:
        """Removes the incomplete files."""
        if self._video is not None:
            self._video.discard()
        if self._story:
            self._story.discard()
        for file in (self._csv, self._json):
            with contextlib.suppress(OSError):
                file.close()
            Path(file.name).unlink(missing_ok=True)

    def _add_rows(self, frame: Frame, prediction: Prediction) -> None:
        seconds = "" if frame.seconds is None else f"{frame.seconds:.3f}"
        for number, face in enumerate(prediction.faces):
            position = (csv_text(frame.source.name), frame.index, seconds, number, *face.box)
            probabilities = [f"{value:.6f}" for value in face.probabilities.values()]
            row = [*position, face.found, csv_text(face.answer), *probabilities]
            row.append(csv_text(self.sources[-1].get("annotated", "")))
            if self._has_videos:
                row.append("" if face.track is None else str(face.track))
            if self._smoothing:
                row += self._smoothed_cells(face)
            row += [f"{value:.6f}" for value in face.further.values()]
            self._table.writerow(row)
        content = {
            "source": frame.source.name,
            "frame": frame.index,
            "seconds": None if frame.seconds is None else round(frame.seconds, 3),
            "faces": [face.to_json() for face in prediction.faces],
        }
        self._json.write(self._separator + json.dumps(content))
        self._separator = ",\n    "

    def _smoothed_cells(self, face: Face) -> list[str]:
        """Label and probabilities after smoothing; empty for images."""
        if face.smoothed is None:
            return [""] * (1 + len(self._label_names))
        return [csv_text(face.shown()[0]), *(f"{value:.6f}" for value in face.smoothed.values())]

    def _add_annotated(self, frame: Frame, prediction: Prediction) -> None:
        is_image = frame.source.kind == "picture"
        annotated = annotate(frame.image, prediction.faces, enlarge=is_image)
        if is_image:
            path = self.folder / "annotated" / self._unique_name(frame.source, ".jpg")
            files.write_bytes(path, _jpeg(annotated))
            self.sources[-1]["annotated"] = str(path.relative_to(self.folder))
            self._add_figures(prediction, path.stem)
            return
        if self._video is None:
            path = self.folder / "annotated" / self._unique_name(frame.source, ".mp4")
            self._video = _Video(path, frame.rate, annotated)
            self.sources[-1]["annotated"] = str(path.relative_to(self.folder))
        self._video.add(annotated, frame.seconds or 0.0)

    def _add_figures(self, prediction: Prediction, stem: str) -> None:
        for number, face in enumerate(prediction.faces, 1):
            if self.figures >= self._max_figures:
                return
            path = self.folder / "figures" / f"{stem}_{number}.png"
            title = printable(Path(prediction.source).name)
            files.write_bytes(path, _png(draw_figure(face, title)))
            self.sources[-1].setdefault("figures", []).append(str(path.relative_to(self.folder)))
            self.figures += 1

    def _unique_name(self, source: Source, suffix: str) -> str:
        """Returns a file name based on the source's: with its folder, then numbered, if taken."""
        stem = _file_stem(source.path.stem if source.path else source.name)
        folder = _file_stem(source.path.absolute().parent.name) if source.path else ""
        longer = f"{folder}_{stem}".strip("_")
        numbered = (f"{longer}_{number}" for number in itertools.count(2))
        candidates = (f"{name}{suffix}" for name in itertools.chain((stem, longer), numbered))
        name = next(name for name in candidates if name.lower() not in self._names)
        self._names.add(name.lower())  # folders of macOS and Windows ignore case
        return name

    def _delete_earlier(self) -> None:
        """Deletes what an earlier prediction wrote into the folder and this one did not."""
        written = {self.folder / name for source in self.sources for name in _names(source)}
        if self._story:
            written |= {self.folder / name for name in FILES if self._annotate or name != FILES[1]}
        for path in self._earlier:
            if path not in written:
                with contextlib.suppress(OSError):
                    path.unlink()
        for name in OUTPUT_FOLDERS:
            with contextlib.suppress(OSError):  # not empty, or missing
                (self.folder / name).rmdir()


def draw_figure(face: Face, title: str) -> np.ndarray:
    """Draws the paper's emotion-analysis figure of a face, with its heat map: uint8[H, W, 3]."""
    from fer_jax.report import plots  # with Matplotlib, a second: most predictions need none

    values = np.array(list(face.probabilities.values()))
    # Enlarged before the overlay, for a smooth heat map.
    side = max(240, len(face.pixels))
    shown = cv2.resize(face.pixels, (side, side), interpolation=cv2.INTER_CUBIC)
    if face.heat is not None:
        shown = overlay(shown, face.heat)
    if face.found == "whole":
        title = f"no face found; whole image\n{title}"
    return plots.emotion_analysis(shown, values, list(face.probabilities), title=title)


class _Video:
    """An mp4 file, written frame by frame to a temporary file and renamed when complete.

    The file has a constant rate. Where the frames of the source have not, as those of phones and
    cameras, frames are repeated or left out, so that each is shown at its time.
    """

    def __init__(self, path: Path, rate: float, first: np.ndarray) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part.mp4")
        self._rate, self._frames = rate, 0
        self._first: float | None = None  # seconds
        self._last: np.ndarray | None = None
        self._height, self._width = (side // 2 * 2 for side in first.shape[:2])  # must be even
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._part), codec, rate, (self._width, self._height))
        if not self._writer.isOpened():
            raise UserError(
                f"expected to write the video {path}, found an OpenCV that cannot write mp4; "
                "install opencv-python-headless 4.x, or use --no_pictures"
            )

    def add(self, image: np.ndarray, seconds: float) -> None:
        """Adds a frame, resized or cropped to the size of the first, at its time."""
        if self._first is None:
            self._first = seconds
        position = round((seconds - self._first) * self._rate)
        gap = min(position - self._frames, round(_MAX_GAP_SECONDS * self._rate))
        if gap < 0:
            return
        if image.shape[0] < self._height or image.shape[1] < self._width:
            image = cv2.resize(image, (self._width, self._height))
        image = image[: self._height, : self._width]
        shown = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        for _ in range(gap):
            self._writer.write(shown if self._last is None else self._last)
        self._writer.write(shown)
        self._last, self._frames = shown, position + 1

    def close(self) -> None:
        """Completes the file and renames it to its final name."""
        self._writer.release()
        os.replace(self._part, self._path)

    def discard(self) -> None:
        """Removes the incomplete file."""
        self._writer.release()
        self._part.unlink(missing_ok=True)


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Raises a UserError for a full disk or a folder without write permission."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"expected to write results in {folder}, found: {error.strerror or error}; "
            "free some space or choose another folder with --out"
        ) from error


def _open_text(path: Path) -> TextIO:
    """Opens the temporary file of `path`."""
    return open(path.with_name(f".{path.name}.part"), "w", encoding="utf-8", newline="")


def _file_stem(text: str) -> str:
    """Returns a text as part of a file name that any program can open."""
    return re.sub(r"[/\\:*?\"<>|]+", "_", printable(text))[:_MAX_STEM]


def _earlier_files(folder: Path) -> list[Path]:
    """The images and videos that an earlier prediction wrote into `folder`, by its table."""
    try:
        sources = json.loads((folder / "predictions.json").read_text("utf-8"))["sources"]
        paths = [Path(name) for source in sources for name in _names(source)]
        has_story = any("tracks" in source for source in sources)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    found = [path for path in paths if len(path.parts) == 2 and path.parts[0] in OUTPUT_FOLDERS]
    return [folder / path for path in (*found, *(FILES if has_story else ()))]


def _names(source: dict[str, Any]) -> list[str]:
    """The images and videos of an entry of predictions.json, as paths in the folder."""
    lists = source.get("figures", ()), source.get("timelines", ())
    names = [source.get("annotated"), *itertools.chain(*lists)]
    return [name for name in names if name]


def _rename_complete(file: TextIO) -> None:
    file.close()
    temporary = Path(file.name)
    final_name = temporary.name.removeprefix(".").removesuffix(".part")
    os.replace(temporary, temporary.with_name(final_name))


def _png(image: np.ndarray) -> bytes:
    from fer_jax.report import png

    return png.encode(image)


def _jpeg(image: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
