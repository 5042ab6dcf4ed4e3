"""Writes what prediction found into a folder, as it comes: nothing grows with a video's length.

    predictions.csv           a line per face and frame
    predictions.json          the same with the run, the sources and what could not be read
    annotated/NAME.jpg .mp4   faces framed and named
    figures/NAME_1.png        a face beside the probabilities of its classes, for pictures

Tables and videos are written beside their place and named when whole; where writing fails,
those of an earlier prediction stay. No network is run here.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2
import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.inference.draw import annotate
from fer_jax.inference.overlay import overlay
from fer_jax.inference.results import Face, Picture
from fer_jax.inference.sources import Frame, Source, Unreadable
from fer_jax.report import plots, png

FORMAT = 1
"""Of predictions.json; raised when an older reader could not understand it."""

_COLUMNS = ("source", "frame", "seconds", "face", "x", "y", "width", "height", "found", "label")
_QUALITY = 92


class Outputs:
    """The files of one prediction; use it with `with`.

    Args:
      folder: made if it is missing; results of an earlier prediction are replaced.
      header: what predictions.json begins with: the run, its labels and so on.
      label_names: the classes in index order.
      figures: so many figures are drawn, one for each face of the first pictures.
      pictures: whether annotated pictures and videos are written.

    Raises:
      UserError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        header: dict[str, Any],
        label_names: tuple[str, ...],
        figures: int,
        pictures: bool = True,
    ) -> None:
        self.folder = folder
        self.faces = self.figures = 0
        self.sources: list[dict[str, Any]] = []
        self.unreadable: list[Unreadable] = []
        self.interrupted = False
        self._header, self._label_names = header, label_names
        self._most_figures, self._pictures = figures, pictures
        self._names: set[str] = set()
        self._video: _Video | None = None
        self._current: Source | None = None

    def __enter__(self) -> Outputs:
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._csv = open(_part(self.folder / "predictions.csv"), "w", newline="")
            self._json = open(_part(self.folder / "predictions.json"), "w")
        self._table = csv.writer(self._csv)
        self._table.writerow([*_COLUMNS, *(f"probability_{name}" for name in self._label_names)])
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
            self._give_up()
            return
        self._finish_source()
        tail = {
            "sources": self.sources,
            "unreadable": [
                {"source": one.source.name, "reason": one.reason} for one in self.unreadable
            ],
        }
        self._json.write("\n  ],\n  " + json.dumps(tail, indent=2).removeprefix("{\n  ") + "\n")
        for file in (self._csv, self._json):
            _put_into_place(file)

    def add(self, frame: Frame, picture: Picture) -> None:
        """Writes what was found in a frame."""
        if frame.source != self._current:
            self._finish_source()
            self._begin_source(frame)
        with _told(self.folder):
            self._add_rows(frame, picture)
            if self._pictures:
                self._paint(frame, picture)
        self.sources[-1]["frames"] += 1
        self.sources[-1]["faces"] += len(picture.faces)
        self.faces += len(picture.faces)

    def add_unreadable(self, unreadable: Unreadable) -> None:
        """Remembers what could not be read."""
        self.unreadable.append(unreadable)

    def _begin_source(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        self._current = frame.source
        entry = {"source": frame.source.name, "kind": frame.source.kind}
        self.sources.append({**entry, "width": width, "height": height, "frames": 0, "faces": 0})
        if frame.source.kind != "picture":
            self.sources[-1]["frames_per_second"] = round(frame.rate, 3)

    def _finish_source(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None

    def _give_up(self) -> None:
        """Removes what is not whole."""
        if self._video is not None:
            self._video.discard()
        for file in (self._csv, self._json):
            with contextlib.suppress(OSError):
                file.close()
            Path(file.name).unlink(missing_ok=True)

    def _add_rows(self, frame: Frame, picture: Picture) -> None:
        shown = "" if frame.seconds is None else f"{frame.seconds:.3f}"
        for number, face in enumerate(picture.faces):
            place = (frame.source.name, frame.index, shown, number, *face.box)
            numbers = [f"{value:.6f}" for value in face.probabilities.values()]
            self._table.writerow([*place, face.found, face.label, *numbers])
        content = {
            "source": frame.source.name,
            "frame": frame.index,
            "seconds": None if frame.seconds is None else round(frame.seconds, 3),
            "faces": [face.to_json() for face in picture.faces],
        }
        self._json.write(self._separator + json.dumps(content))
        self._separator = ",\n    "

    def _paint(self, frame: Frame, picture: Picture) -> None:
        is_picture = frame.source.kind == "picture"
        painted = annotate(frame.image, picture.faces, enlarge=is_picture)
        if is_picture:
            path = self.folder / "annotated" / self._name(frame.source, ".jpg")
            files.write_bytes(path, _jpeg(painted))
            self.sources[-1]["annotated"] = str(path.relative_to(self.folder))
            self._draw_figures(picture, path.stem)
            return
        if self._video is None:
            path = self.folder / "annotated" / self._name(frame.source, ".mp4")
            self._video = _Video(path, frame.rate, painted)
            self.sources[-1]["annotated"] = str(path.relative_to(self.folder))
        self._video.add(painted)

    def _draw_figures(self, picture: Picture, stem: str) -> None:
        for number, face in enumerate(picture.faces, 1):
            if self.figures >= self._most_figures:
                return
            path = self.folder / "figures" / f"{stem}_{number}.png"
            files.write_bytes(path, png.encode(draw_figure(face, Path(picture.source).name)))
            self.figures += 1

    def _name(self, source: Source, suffix: str) -> str:
        """A file name like the source's that no other source has."""
        stem = source.path.stem if source.path else source.name.replace(":", "_")
        name, number = f"{stem}{suffix}", 1
        while name in self._names:
            number += 1
            name = f"{stem}_{number}{suffix}"
        self._names.add(name)
        return name


def draw_figure(face: Face, title: str) -> np.ndarray:
    """The paper's emotion analysis of a face, with its heat map if it has one: uint8[H, W, 3]."""
    values = np.array(list(face.probabilities.values()))
    # Enlarged first, so that the colours are smoother than the network's pixels.
    side = max(240, len(face.pixels))
    shown = cv2.resize(face.pixels, (side, side), interpolation=cv2.INTER_CUBIC)
    if face.heat is not None:
        shown = overlay(shown, face.heat)
    if face.found == "whole":
        title = f"no face found; whole picture\n{title}"
    return plots.emotion_analysis(shown, values, list(face.probabilities), title=title)


class _Video:
    """An mp4 that is written frame by frame, named when it is whole."""

    def __init__(self, path: Path, rate: float, first: np.ndarray) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part.mp4")
        self._height, self._width = (side // 2 * 2 for side in first.shape[:2])  # the codec's wish
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._part), codec, rate, (self._width, self._height))
        if not self._writer.isOpened():
            raise UserError(
                f"expected to write the video {path}, found that OpenCV cannot; install "
                "opencv-python-headless 4.x, which can, or use --no_pictures"
            )

    def add(self, painted: np.ndarray) -> None:
        """Adds a frame; one of another size is brought to that of the first."""
        if painted.shape[0] < self._height or painted.shape[1] < self._width:
            painted = cv2.resize(painted, (self._width, self._height))
        painted = painted[: self._height, : self._width]
        self._writer.write(cv2.cvtColor(painted, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Gives it its name."""
        self._writer.release()
        os.replace(self._part, self._path)

    def discard(self) -> None:
        """Removes it."""
        self._writer.release()
        self._part.unlink(missing_ok=True)


class _told:  # noqa: N801 - used like a function
    """Turns a full disk or a folder of somebody else into a message."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise UserError(
                f"expected to write results in {self._folder}, found: {error.strerror or error}; "
                "free some space or choose another folder with --out"
            ) from error


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _put_into_place(file: TextIO) -> None:
    file.close()
    part = Path(file.name)
    os.replace(part, part.with_name(part.name.removeprefix(".").removesuffix(".part")))


def _jpeg(picture: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()
