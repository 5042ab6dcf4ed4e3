"""Predicts images, folders, videos or a camera and writes the results.

Implements `fer-jax predict`; its flags are in `fer_jax.cli.predict`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_jax import run_dir
from fer_jax.inference import sources as inputs
from fer_jax.inference.draw import annotate as annotate_frame
from fer_jax.inference.follow import Follower, follow_all
from fer_jax.inference.live import LiveView
from fer_jax.inference.model import Model
from fer_jax.inference.outputs import Counts, Outputs
from fer_jax.inference.smoothing import Smoothing
from fer_jax.inference.stream import FramePrediction, PredictOptions, predict_frames, predict_live
from fer_jax.monitor.console import ProgressBar


def predict(
    run: run_dir.Run,
    found: inputs.Found,
    out: Path | None,
    options: PredictOptions,
    figures: int,
    annotate: bool = True,
    seconds: float | None = None,
    smoothing: Smoothing | None = None,
    view: LiveView | None = None,
) -> Counts:
    """Predicts all sources, and reports unreadable files.

    Args:
      run: a trained run.
      found: from `find_sources`.
      out: folder to write the results into; None writes none.
      options: which faces to classify, and how.
      figures: maximum number of probability figures.
      annotate: whether to write annotated images and videos, and figures.
      seconds: how long to record a camera; None means until Ctrl-C.
      smoothing: how to smooth the probabilities of people in videos; None for not at all.
      view: shows the newest frames of the only source, a camera; None shows nothing.

    Returns:
      What was found; after Ctrl-C, `interrupted` is set.

    Raises:
      UserError: no checkpoint, or a folder that cannot be written.
    """
    model = Model(run)
    writer = Counts() if out is None else Outputs(
        out, _header(model, options.abstain), run.labels, figures, annotate, found.ignored,
        any(source.kind != "picture" for source in found.sources), smoothing, run.heads.columns,
    )  # fmt: skip
    frames = (predict_live(model, found.sources[0], options) if view
              else predict_frames(model, found.sources, options))  # fmt: skip
    if out or view:  # nothing else shows tracks
        frames = follow_all(frames, Follower(smoothing).follow)
    with (
        writer as outputs,
        contextlib.closing(_limit(frames, seconds)) as results,
        PredictionProgress(len(found.sources)) as progress,
    ):
        try:
            for result in results:
                if isinstance(result, inputs.Unreadable):
                    outputs.add_unreadable(result)
                    progress.message(f"skipped {result.source.name}: {result.reason}")
                else:
                    frame, prediction = result
                    if view:
                        shown = annotate_frame(frame.image, prediction.faces, enlarge=False)
                        view.show(shown, frame.captured)
                    outputs.add(frame, prediction)
                    progress.advance(frame)
        except KeyboardInterrupt:  # the results so far are still written
            outputs.interrupted = True
    return outputs


def _header(model: Model, abstain: float) -> dict[str, Any]:
    """Returns the first entries of predictions.json."""
    return {
        "run": model.run.name,
        "step": model.classifier.step,
        "runtime": model.classifier.runtime,
        "warnings": list(run_dir.report_warnings(model.run)),
        "labels": list(model.labels),
        **({"abstain": abstain} if abstain else {}),
    }


def _limit(
    results: Iterator[FramePrediction | inputs.Unreadable], seconds: float | None
) -> Generator[FramePrediction | inputs.Unreadable, None, None]:
    """Yields `results`, but ends after `seconds` of a camera."""
    for result in results:
        if seconds is not None and not isinstance(result, inputs.Unreadable):
            frame = result[0]
            if frame.source.kind == "camera" and (frame.seconds or 0) > seconds:
                return
        yield result


class PredictionProgress(ProgressBar):
    """Progress over sources, with the file name and the frames per second.

    Args:
      total: number of sources.
    """

    def __init__(self, total: int) -> None:
        super().__init__(total, "finding faces")
        self._start = time.monotonic()
        self._frames, self._source = 0, ""
        self._done = -1  # sources; the first frame of a source completes the one before

    def advance(self, frame: inputs.Frame) -> None:
        """Reports that a frame is done."""
        self._frames += 1
        if frame.source.name != self._source:
            self._source, self._done = frame.source.name, self._done + 1
        fraction = frame.index / frame.expected if frame.expected else 0.0
        rate = self._frames / max(time.monotonic() - self._start, 1e-9)
        self.update(
            self._done + fraction,
            os.path.basename(self._source),
            f"{fraction:.0%}" if fraction else "",
            f"{rate:,.0f} frames/s",
        )


def describe(outputs: Counts, warnings: Sequence[str], ignored: str = "") -> Iterator[str]:
    """Yields the closing lines: the faces, the run's warnings, the counts, and the files written.

    Args:
      outputs: of the prediction.
      warnings: of the run's report.
      ignored: counts of files that were not read.
    """
    yield from outputs.listing.lines()
    yield from (f"note: the run's report warns: {line}" for line in warnings)
    where = "; predictions.json lists them" if isinstance(outputs, Outputs) else ""
    frames = sum(source["frames"] for source in outputs.sources)
    videos = sum(source["kind"] != "picture" for source in outputs.sources)
    counts = {"image": len(outputs.sources) - videos, "video": videos}
    kinds = [_plural(count, name) for name, count in counts.items() if count]
    total = f"{_plural(outputs.faces, 'face')} in {_plural(frames, 'frame')}"
    yield f"{total} of {' and '.join(kinds)}"
    if outputs.without_face:
        yield f"no face was detected in {_plural(outputs.without_face, 'frame')}"
    if outputs.unreadable:
        yield f"{len(outputs.unreadable):,} could not be read{where}"
    if ignored:
        yield f"not read, as no images or videos: {ignored}{where}"
    if not isinstance(outputs, Outputs):
        return
    for path in sorted(outputs.folder.iterdir()):
        if not path.name.startswith("."):
            yield str(path)


def _plural(count: int, name: str) -> str:
    return f"{count:,} {name}" + ("" if count == 1 else "s")
