"""What people watch while a network trains: a live line on a terminal, plain lines elsewhere.

Shows numbers that others computed; measures only time. A terminal that cannot be
written to any more makes it silent, never the training stop.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column

RATE_SECONDS = 30.0  # of training that the images per second look back on
REDRAW_SECONDS = 0.5  # between two drawings of the live line, whatever training does
TICK_SECONDS = 0.2  # between two looks at the time, on steps that report nothing
BAR_COLUMNS = 90  # a narrower terminal keeps its room for the figures


class PlainConsole(Console):
    """A console that leaves a broken pipe to its caller; rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the BrokenPipeError, which is raised again."""
        raise


class Pace:
    """How fast training runs, compiling and validations left out.

    Args:
      clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: tuple[int, float] | None = None  # step and time of the last report
        self._recent: collections.deque[tuple[int, float]] = collections.deque()
        self._validation_seconds = 0.0
        self._steps = 0

    def trained(self, step: int) -> None:
        """`step` steps are done; the first report has compiling in it and only starts the clock."""
        now = self._clock()
        if self._last is not None and step > self._last[0]:
            steps, seconds = step - self._last[0], now - self._last[1]
            self._steps += steps
            self._recent.append((steps, seconds))
            while sum(s for _, s in self._recent) - self._recent[0][1] > RATE_SECONDS:
                self._recent.popleft()
        self._last = (step, now)

    def validated(self, step: int) -> None:
        """A validation has ended that followed the last report."""
        now = self._clock()
        if self._last is not None:
            self._validation_seconds += now - self._last[1]
        self._last = (step, now)

    @property
    def steps_per_second(self) -> float | None:
        """Over the last `RATE_SECONDS`; None while nothing was timed."""
        seconds = sum(seconds for _, seconds in self._recent)
        return sum(steps for steps, _ in self._recent) / seconds if seconds > 0 else None

    def seconds_for(self, steps: int) -> float | None:
        """What `steps` more will take at this pace, with their share of validations."""
        pace = self.steps_per_second
        if pace is None:
            return None
        return steps * (1 / pace + self._validation_seconds / self._steps)


class Progress:
    """Reports one sitting of a training run.

    Args:
      total_steps: of the run.
      steps_per_epoch: to name the epoch.
      batch_size: images per step.
      first_step: steps that were done before this sitting.
      best: the best validation before this sitting, if any.
      monitor: what makes a validation better.
      console: where to write; the standard error by default.
      clock: seconds, for tests.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        batch_size: int,
        first_step: int,
        best: float | None = None,
        monitor: str = "accuracy",
        console: PlainConsole | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._per_epoch, self._batch = total_steps, steps_per_epoch, batch_size
        self._console = console or PlainConsole(stderr=True)
        self._clock, self._pace = clock, Pace(clock)
        self._step, self._best, self._monitor = first_step, best, monitor
        self._train: Mapping[str, float] = {}
        self._began = self._printed = clock()
        self._ticked = self._began
        self._silent = False
        self._writing = threading.RLock()
        self._ended = threading.Event()
        self._redrawing = threading.Thread(target=self._redraw, name="progress", daemon=True)
        self._live = self._make_live() if _is_live(self._console) else None

    def __enter__(self) -> Progress:
        if self._live:
            self._write(self._live.start)
            self._redrawing.start()
        else:
            self.message("compiling the first step")
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._ended.set()
            self._redrawing.join()
            self._write(self._live.stop)

    def tick(self, step: int, metrics_of: Callable[[], Mapping[str, float]]) -> None:
        """`step` steps are done and nothing is logged; cheap, and shown when it is time.

        `metrics_of` gives loss and accuracy since the last update, as far as they are known.
        """
        now = self._clock()
        if now - self._ticked >= TICK_SECONDS:
            self._ticked = now
            self.update(step, metrics_of() or self._train)

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Reports training: `metrics` has loss and accuracy since the last report."""
        self._pace.trained(step)
        self._step, self._train = step, metrics
        now = self._clock()
        if self._live:
            self._refresh()
        elif now - self._printed >= _plain_interval(now - self._began):
            self.message(f"{self._place()}  {self._status()}")

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        """Reports a validation that followed an update: `metrics` has loss and accuracy."""
        self._pace.validated(step)
        self._step = step
        if is_best:
            self._best = metrics[self._monitor]
        parts = [
            self._place(),
            f"train loss {self._train['loss']:.3f}" if "loss" in self._train else "",
            f"validation loss {metrics['loss']:.3f} accuracy {metrics['accuracy']:.3f}",
            "best so far" if is_best else self._best_text("(best {})"),
            self._rate_text(),
            self._left_text(),
        ]
        self.message("  ".join(filter(None, parts)))
        if self._live:
            self._refresh()

    def message(self, text: str) -> None:
        """Writes a line of its own, above the live one."""
        self._printed = self._clock()
        # A name that the terminal cannot show is escaped.
        encoding = self._console.encoding
        shown = text.encode(encoding, "backslashreplace").decode(encoding)
        self._write(
            lambda: self._console.print(
                shown, markup=False, highlight=False, emoji=False, soft_wrap=True
            )
        )

    def _make_live(self) -> RichProgress:
        one_line = Column(no_wrap=True, overflow="ellipsis")
        columns: list[ProgressColumn] = [
            TextColumn("{task.fields[status]}", markup=False, table_column=one_line)
        ]
        if self._console.width >= BAR_COLUMNS:
            columns = [
                BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), *columns,
            ]  # fmt: skip
        # Refreshed by our own thread: rich's would die of a closed terminal loudly.
        live = RichProgress(
            *columns,
            console=self._console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),  # what goes to a file shall stay there
        )
        live.add_task("", total=self._total, completed=self._step, status="compiling")
        return live

    def _redraw(self) -> None:
        """Draws the live line while nothing is reported: the time goes on when compiling too."""
        live = self._live
        while live and not self._silent and not self._ended.wait(REDRAW_SECONDS):
            self._write(live.refresh)

    def _refresh(self) -> None:
        live = self._live
        if live:
            task = live.task_ids[0]
            self._write(
                lambda: live.update(task, completed=self._step, status=self._status(), refresh=True)
            )

    def _write(self, action: Callable[[], None]) -> None:
        """Runs what writes to the console; once that has failed, nothing is written."""
        with self._writing:
            if self._silent:
                return
            try:
                action()
            except (OSError, ValueError):  # gone, closed, or of an encoding that lies
                self._silent = True
                if self._live:
                    with contextlib.suppress(OSError, ValueError):
                        self._live.stop()  # gives back sys.stderr, which rich borrows

    def _place(self) -> str:
        epochs = -(-self._total // self._per_epoch)
        epoch = min(epochs, max(1, -(-self._step // self._per_epoch)))
        return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  step {self._step:>5,}"

    def _status(self) -> str:
        parts = [
            f"epoch {max(1, -(-self._step // self._per_epoch))}" if self._live else "",
            f"loss {self._train['loss']:.3f}" if "loss" in self._train else "",
            f"accuracy {self._train['accuracy']:.3f}" if "accuracy" in self._train else "",
            self._left_text(),
            self._rate_text(),
            self._best_text("best {}"),
        ]
        return "  ".join(filter(None, parts))

    def _best_text(self, form: str) -> str:
        if self._best is None:
            return ""
        # The line beside it speaks of accuracy.
        name = "" if self._monitor == "accuracy" else f"{self._monitor.replace('_', ' ')} "
        return form.format(f"{name}{self._best:.3f}")

    def _rate_text(self) -> str:
        rate = self._pace.steps_per_second
        return "" if rate is None else f"{rate * self._batch:,.0f} images/s"

    def _left_text(self) -> str:
        """Time to the last epoch; stopping early makes it shorter."""
        seconds = self._pace.seconds_for(self._total - self._step)
        return "" if not seconds else f"{_clock_text(seconds)} left"


def _is_live(console: Console) -> bool:
    """Whether the console is a terminal whose line can be written again."""
    # rich takes FORCE_COLOR for a terminal; a file full of control codes helps nobody.
    real = console.is_terminal and console.file.isatty() and not console.is_dumb_terminal
    return real and bool(os.environ.get("TERM")) and not os.environ.get("CI")


def _plain_interval(elapsed: float) -> float:
    """Seconds between plain lines: ten at first, a minute once ten have passed."""
    return min(60.0, max(10.0, elapsed / 10))


def _clock_text(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
