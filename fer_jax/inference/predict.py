"""Says what the faces in pictures, folders, videos or a camera's view express.

    fer-jax predict runs/demo photo.jpg album/ clip.mp4 --out results
    fer-jax predict runs/demo camera --seconds 10 --out results

Faces are cut and prepared as the run directory says; nothing is retyped here.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax.inference import sources as inputs

if TYPE_CHECKING:  # JAX is imported after the process has begun again
    from fer_jax import run_dir as run_directory
    from fer_jax.inference.outputs import Outputs
    from fer_jax.inference.stream import Seen, Wanted

_FIGURES = 12  # each takes a third of a second
_LINE_SECONDS = 10.0  # between lines of progress where there is no terminal


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
        Watch(len(sources)) as watch,
    ):
        try:
            for result in results:
                if isinstance(result, inputs.Unreadable):
                    outputs.add_unreadable(result)
                    watch.say(f"passed over: {result.source.name}: {result.reason}")
                else:
                    outputs.add(*result)
                    watch.advance(result[0])
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


class Watch:
    """What people watch: a bar on a terminal, now and then a line elsewhere.

    Args:
      total: sources to come.
    """

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(stderr=True, soft_wrap=True)
        columns = (BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._live = Progress(*columns, console=self._console, transient=True)
        self._is_live = self._console.is_terminal and sys.stderr.isatty()
        self._task = self._live.add_task("finding faces", total=total)
        self._total, self._began = total, time.monotonic()
        self._said, self._frames, self._source = self._began, 0, ""
        self._done = -1  # sources

    def __enter__(self) -> Watch:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line of its own."""
        self._console.print(line, markup=False, highlight=False)

    def advance(self, frame: inputs.Frame) -> None:
        """A frame is done."""
        self._frames += 1
        if frame.source.name != self._source:
            self._source, self._done = frame.source.name, self._done + 1
        now = time.monotonic()
        share = frame.index / frame.expected if frame.expected else 0.0
        rate = self._frames / max(now - self._began, 1e-9)
        text = f"{Path(self._source).name}  {share:.0%}" if share else Path(self._source).name
        if self._is_live:
            status = f"{text}  {rate:,.0f} frames/s"
            self._live.update(self._task, completed=self._done + share, description=status)
        elif now - self._said > _LINE_SECONDS:
            self._said = now
            self.say(f"{self._done + 1} of {self._total}: {text}, {rate:,.0f} frames/s")


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
