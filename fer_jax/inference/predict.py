"""Says what the faces in pictures, folders, videos or a camera's view express.

    fer-jax predict runs/demo photo.jpg album/ clip.mp4 --out results
    fer-jax predict runs/demo camera --seconds 10 --out results

Faces are cut and prepared as the run directory says; nothing is retyped here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax.inference import sources as inputs
from fer_jax.monitor.console import ProgressBar

if TYPE_CHECKING:  # JAX is imported after the process has begun again
    from fer_jax import run_dir as run_directory
    from fer_jax.inference.outputs import Outputs
    from fer_jax.inference.stream import Seen, Wanted

_FIGURES = 12  # each takes a third of a second


def predict(
    run: run_directory.Run,
    sources: Sequence[inputs.Source],
    out: Path,
    wanted: Wanted,
    figures: int = _FIGURES,
    pictures: bool = True,
    seconds: float | None = None,
) -> Outputs:
    """Writes what is seen in all sources into `out`, and says what could not be read.

    Args:
      run: a trained run.
      sources: of `inputs.find_sources`.
      out: the folder to write.
      wanted: which faces, and what of them.
      figures: so many figures at most.
      pictures: whether to write annotated pictures and videos.
      seconds: of a camera's view; None goes on until Ctrl-C.

    Raises:
      UserError: no checkpoint, or a folder that cannot be written.

    Returns:
      What was written; after a Ctrl-C `interrupted` is set.
    """
    from fer_jax import run_dir as run_directory
    from fer_jax.api import Model
    from fer_jax.inference.outputs import Outputs
    from fer_jax.inference.stream import recognize_all

    model = Model(run)
    header = {
        "run": run.name,
        "step": model.network.step,
        "warnings": list(run_directory.report_warnings(run)),
        "labels": list(run.labels),
    }
    with (
        Outputs(out, header, run.labels, figures, pictures) as outputs,
        contextlib.closing(_until(recognize_all(model, sources, wanted), seconds)) as results,
        PredictionProgress(len(sources)) as progress,
    ):
        try:
            for result in results:
                if isinstance(result, inputs.Unreadable):
                    outputs.add_unreadable(result)
                    progress.message(f"passed over: {result.source.name}: {result.reason}")
                else:
                    outputs.add(*result)
                    progress.advance(result[0])
        except KeyboardInterrupt:  # what was seen until then is kept
            outputs.interrupted = True
    return outputs


def _until(
    results: Iterator[Seen | inputs.Unreadable], seconds: float | None
) -> Generator[Seen | inputs.Unreadable, None, None]:
    """`results`, those of a camera for so many seconds."""
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
        self._began = time.monotonic()
        self._frames, self._source = 0, ""
        self._done = -1  # sources; the first frame of a source completes the one before

    def advance(self, frame: inputs.Frame) -> None:
        """Reports that a frame is done."""
        self._frames += 1
        if frame.source.name != self._source:
            self._source, self._done = frame.source.name, self._done + 1
        fraction = frame.index / frame.expected if frame.expected else 0.0
        rate = self._frames / max(time.monotonic() - self._began, 1e-9)
        self.update(
            self._done + fraction,
            Path(self._source).name,
            f"{fraction:.0%}" if fraction else "",
            f"{rate:,.0f} frames/s",
        )


def describe(outputs: Outputs, warnings: Sequence[str]) -> Iterator[str]:
    """The closing lines: what was seen and where it is written."""
    yield from (f"note: the run's report says: {line}" for line in warnings)
    frames = sum(source["frames"] for source in outputs.sources)
    videos = sum(source["kind"] != "picture" for source in outputs.sources)
    counts = {"picture": len(outputs.sources) - videos, "video": videos}
    what = [_counted(count, name) for name, count in counts.items() if count]
    total = f"{_counted(outputs.faces, 'face')} in {_counted(frames, 'frame')}"
    yield f"{total} of {' and '.join(what)}"
    if outputs.unreadable:
        yield f"{len(outputs.unreadable):,} could not be read; predictions.json names them"
    for path in sorted(outputs.folder.iterdir()):
        yield str(path)


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}" + ("" if count == 1 else "s")
