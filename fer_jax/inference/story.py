"""The files that say what the people of videos showed over time.

    tracks.csv                one line per person: times, shares, dwell times, changes
    timelines/NAME_1.png      the timeline of person 1
    timeline.html             all timelines on one page, which needs no network

They are written video by video, to temporary files, and renamed when complete.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fer_jax import files
from fer_jax.inference.draw import color_of
from fer_jax.inference.timeline import Timeline, Track
from fer_jax.printable import csv_text, printable
from fer_jax.report import png

FILES = ("tracks.csv", "timeline.html")
"""Names of the two files."""

FOLDER = "timelines"
"""Folder of the images."""

_COLUMNS = (
    "source", "track", "first_seconds", "last_seconds", "seconds", "frames", "label",
    "mean_confidence", "changes", "changes_per_minute",
)  # fmt: skip
_MAX_PEOPLE = 30  # people of a video on the page: those who are longest in view
_MAX_IMAGES = 12  # images per video, each takes half a second
_MIN_SECONDS = 1.0  # in view, for an image


class Story:
    """Writes the files of all videos of a prediction.

    Args:
      folder: output folder.
      run: name of the run.
      labels: class names in index order.
      smoothing: how labels were smoothed; "" for not at all.
      pictures: whether to write images and the page.
    """

    def __init__(
        self, folder: Path, run: str, labels: Sequence[str], smoothing: str, pictures: bool
    ) -> None:
        self._folder, self._labels, self._smoothing = folder, tuple(labels), smoothing
        self._table = _open_part(folder / FILES[0])
        self._page = _open_part(folder / FILES[1]) if pictures else None
        names = [printable(name) for name in labels]
        shares, dwell = ([f"{what}_{name}" for name in names] for what in ("share", "dwell"))
        self._rows = csv.writer(self._table)
        self._rows.writerow([*_COLUMNS, *shares, *dwell, "smoothing"])
        if self._page:
            colors = ["#" + bytes(color_of(labels, index)).hex() for index in range(len(labels))]
            about = {"run": run, "labels": names, "colors": colors, "smoothing": smoothing}
            template = Path(__file__).with_name("timeline.html")
            self._page.write(template.read_text("utf-8") + _script("start", about))

    def add(self, source: str, stem: str, timeline: Timeline) -> dict[str, Any]:
        """Writes a video that has ended; returns its entries of predictions.json.

        Args:
          source: its name.
          stem: of the names of its images.
          timeline: its finished timeline.
        """
        tracks = sorted(timeline.tracks.values(), key=lambda track: track.number)
        for track in tracks:
            self._rows.writerow(self._row(source, track))
        longest = sorted(tracks, key=lambda track: -track.total)
        shown = sorted(longest[:_MAX_PEOPLE], key=lambda track: track.number)
        names: list[str] = []
        if self._page:
            video = {
                "source": printable(source),
                "end": round(timeline.end, 3),
                "width": timeline.width,
                "count": len(tracks),
                "tracks": [_content(track) for track in shown],
            }
            self._page.write(_script("addVideo", video))
            names += [self._write_image(source, stem, timeline, track)
                      for track in longest[:_MAX_IMAGES]
                      if track.total >= _MIN_SECONDS or track is longest[0]]  # fmt: skip
        return {"tracks": len(tracks), "timelines": names}

    def close(self) -> None:
        """Completes the files and gives them their names."""
        if self._page:
            self._page.write("</body>\n</html>\n")
        for file in (self._table, self._page):
            if file:
                file.close()
                part = Path(file.name)
                os.replace(part, part.with_name(part.name[1:].removesuffix(".part")))

    def discard(self) -> None:
        """Removes the incomplete files."""
        for file in (self._table, self._page):
            if file:
                with contextlib.suppress(OSError):
                    file.close()
                Path(file.name).unlink(missing_ok=True)

    def _row(self, source: str, track: Track) -> list[Any]:
        dwell = ["" if math.isnan(value) else f"{value:.3f}" for value in track.dwell]
        return [
            csv_text(source), track.number, f"{track.first:.3f}", f"{track.last:.3f}",
            f"{track.total:.3f}", track.frames,
            csv_text(self._labels[int(track.seconds.argmax())]), f"{track.confidence:.4f}",
            track.changes, f"{track.changes_per_minute:.3f}",
            *(f"{share:.4f}" for share in track.shares), *dwell, self._smoothing or "none",
        ]  # fmt: skip

    def _write_image(self, source: str, stem: str, timeline: Timeline, track: Track) -> str:
        from fer_jax.inference import timeline_figure  # with Matplotlib, a second

        path = self._folder / FOLDER / f"{stem}_{track.number}.png"
        smoothing = f", smoothed ({self._smoothing})" if self._smoothing else ""
        title = f"{printable(Path(source).name)}: person {track.number}{smoothing}"
        files.write_bytes(path, png.encode(timeline_figure.draw(timeline, track, title)))
        return str(path.relative_to(self._folder))


def _content(track: Track) -> dict[str, Any]:
    """Returns what the page shows of a person."""
    from fer_jax.inference.timeline_figure import runs

    portrait = base64.b64encode(track.portrait).decode()
    bins = []
    for index in sorted(track.bins):
        seconds, weighted = track.bins[index]
        values = np.round(100 * weighted / seconds.sum()).astype(int).tolist()
        bins.append([index, int(seconds.argmax()), *values])
    return {
        "number": track.number,
        "total": round(track.total, 3),
        "shares": [round(float(share), 4) for share in track.shares],
        "changes_per_minute": round(track.changes_per_minute, 2),
        "portrait": f"data:image/jpeg;base64,{portrait}" if portrait else "",
        "runs": list(runs(track)),
        "bins": bins,
    }


def _script(function: str, argument: Mapping[str, Any]) -> str:
    """Returns a script element that calls a function of the page."""
    # A name such as "</script>" would end the element.
    text = json.dumps(argument, separators=(",", ":")).replace("<", "\\u003c")
    return f"<script>{function}({text});</script>\n"


def _open_part(path: Path) -> TextIO:
    return open(path.with_name(f".{path.name}.part"), "w", encoding="utf-8", newline="")
