"""Progress of long work on stderr: a bar on a terminal, plain lines in a file or a pipe.

`track` is for loops over items, `TrainingProgress` for training, `ProgressBar` for anything else.
Results are not printed here. A terminal that can no longer be written to silences the display
and never stops the work.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

from fer_jax.printable import printable

_Item = TypeVar("_Item")

RATE_SECONDS = 30.0  # window of the throughput
REDRAW_SECONDS = 0.5  # between redraws while nothing is reported
TICK_SECONDS = 0.2  # shortest time between redraws
LINE_WIDTH = 79  # of messages
BAR_MIN_COLUMNS = 80  # a narrower terminal shows no bar, only its text
_BAR_WIDTH = 10


class PlainConsole(Console):
    """A rich console that raises BrokenPipeError, where rich would exit the program."""

    def on_broken_pipe(self) -> None:
        """Re-raises the BrokenPipeError that rich is handling."""
        raise


def print_stderr(line: str) -> None:
    """Prints one line on stderr at once."""
    print(line, file=sys.stderr, flush=True)


def wrap(text: str) -> list[str]:
    """Breaks a message into lines for a terminal of 80 columns; words and paths stay whole."""
    return textwrap.wrap(text, LINE_WIDTH, break_long_words=False, break_on_hyphens=False)


def track(items: Iterable[_Item], total: int, label: str, unit: str = "images") -> Iterator[_Item]:
    """Yields `items` and shows how many of `total` are done, the throughput and the time left."""
    clock = time.monotonic
    throughput = Throughput(clock)
    with ProgressBar(total, label, clock=clock) as bar:
        for done, item in enumerate(items, start=1):
            yield item
            throughput.update(done)
            rate, seconds = throughput.per_second, throughput.seconds_for(total - done)
            bar.update(
                done,
                label,
                "" if rate is None else f"{rate:,.0f} {unit}/s",
                f"{clock_text(seconds)} left" if seconds else "",
            )


class Throughput:
    """Steps per second, without compilation and validations.

    Args:
      clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: tuple[int, float] | None = None  # step and time of the last report
        self._recent: collections.deque[tuple[int, float]] = collections.deque()
        self._recent_seconds = 0.0  # summed as they come: a second has thousands of tiny images
        self._recent_steps = 0
        self._validation_seconds = 0.0
        self._steps = 0

    def update(self, step: int) -> None:
        """Reports that `step` steps are done; the first report, after compiling, is not timed."""
        now = self._clock()
        if self._last is not None and step > self._last[0]:
            steps, seconds = step - self._last[0], now - self._last[1]
            self._steps += steps
            self._recent.append((steps, seconds))
            self._recent_steps += steps
            self._recent_seconds += seconds
            while self._recent_seconds - self._recent[0][1] > RATE_SECONDS:
                old_steps, old_seconds = self._recent.popleft()
                self._recent_steps -= old_steps
                self._recent_seconds -= old_seconds
        self._last = (step, now)

    def exclude_validation(self, step: int) -> None:
        """Counts the time since the last report as a validation."""
        now = self._clock()
        if self._last is not None:
            self._validation_seconds += now - self._last[1]
        self._last = (step, now)

    @property
    def per_second(self) -> float | None:
        """Steps per second over the last `RATE_SECONDS`; None if nothing was timed yet."""
        seconds = self._recent_seconds
        return self._recent_steps / seconds if seconds > 0 else None

    def seconds_for(self, steps: int) -> float | None:
        """Estimated seconds for `steps` more steps and their validations."""
        rate = self.per_second
        if rate is None:
            return None
        return steps * (1 / rate + self._validation_seconds / self._steps)


class ProgressBar:
    """A bar on a terminal; elsewhere a plain line every ten seconds at first, later every minute.

    Args:
      total: number of items.
      label: text until the first update.
      completed: items that are already done.
      console: where to write; stderr by default.
      clock: returns seconds; for tests.
    """

    def __init__(
        self,
        total: int,
        label: str,
        completed: int = 0,
        console: PlainConsole | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._clock = console or PlainConsole(stderr=True), clock
        self._total, self._completed, self._label = total, float(completed), label
        self._parts: Sequence[str] = ()
        self._started = self._printed = self._drawn = clock()
        self._is_silent = False
        self._writing = threading.RLock()
        self._ended = threading.Event()
        self._redrawing = threading.Thread(target=self._redraw, name="progress", daemon=True)
        self._live = self._make_live() if _is_live(self._console) else None

    def __enter__(self) -> Self:
        if self._live:
            self._write(self._live.start)
            self._redrawing.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._ended.set()
            self._redrawing.join()
            self._write(self._live.stop)

    @property
    def is_live(self) -> bool:
        """Whether a bar is drawn, rather than plain lines."""
        return self._live is not None

    def update(self, completed: float, *parts: str) -> None:
        """Sets the number of completed items and the text, most important part first.

        On a terminal, parts at the end that do not fit are dropped. Empty parts are ignored.
        """
        self._completed, self._parts = completed, parts
        now = self._clock()
        if self._live:
            self._draw(refresh=now - self._drawn >= TICK_SECONDS)
        elif now - self._printed >= _plain_interval(now - self._started):
            self.message(f"{int(completed):,}/{self._total:,}", *parts)

    def message(self, *parts: str) -> None:
        """Prints a line, above the bar; drops parts that exceed the width of a terminal."""
        self._printed = self._clock()
        line = self._fit(parts, self._console.width) if self._live else _join(parts)
        # Characters that the terminal cannot show are escaped.
        encoding = self._console.encoding
        shown = line.encode(encoding, "backslashreplace").decode(encoding)
        self._write(
            lambda: self._console.print(
                shown, markup=False, highlight=False, emoji=False, soft_wrap=True
            )
        )

    def _make_live(self) -> Progress:
        one_line = Column(no_wrap=True, overflow="ellipsis")
        columns: list[ProgressColumn] = [
            TextColumn("{task.fields[status]}", markup=False, table_column=one_line)
        ]
        if self._console.width >= BAR_MIN_COLUMNS:
            columns = [BarColumn(bar_width=_BAR_WIDTH), MofNCompleteColumn(), *columns]
        live = Progress(
            *columns,
            console=self._console,
            transient=True,
            auto_refresh=False,  # rich's thread would print a traceback if the terminal closes
            redirect_stdout=sys.stdout.isatty(),  # not if stdout goes to a file
        )
        live.add_task("", total=self._total, completed=int(self._completed), status=self._label)
        return live

    def _redraw(self) -> None:
        """Redraws while nothing is reported, so that the elapsed time advances."""
        while not self._is_silent and not self._ended.wait(REDRAW_SECONDS):
            self._draw(refresh=True)

    def _draw(self, refresh: bool) -> None:
        live, status = self._live, self._status()
        if live:
            task = live.task_ids[0]
            if refresh:
                self._drawn = self._clock()
            self._write(
                lambda: live.update(task, completed=self._completed, status=status, refresh=refresh)
            )

    def _status(self) -> str:
        """Text beside the bar; before the first update, the label and the elapsed time."""
        parts = self._parts or (self._label, clock_text(self._clock() - self._started))
        counts = len(f"{self._total}/{self._total}")
        used = _BAR_WIDTH + counts + 2 if self._console.width >= BAR_MIN_COLUMNS else 0
        return self._fit(parts, self._console.width - used)

    def _fit(self, parts: Sequence[str], width: int) -> str:
        """Joins the first parts that fit in `width` columns, at least one."""
        filled = [part for part in parts if part]
        while len(filled) > 1 and len(_join(filled)) > width:
            filled.pop()
        return _join(filled)

    def _write(self, action: Callable[[], None]) -> None:
        """Runs `action`, which writes to the console; after a failure nothing is written."""
        with self._writing:
            if self._is_silent:
                return
            try:
                action()
            except (OSError, ValueError):  # disconnected, closed, or of another encoding
                self._is_silent = True
                if self._live:
                    with contextlib.suppress(OSError, ValueError):
                        self._live.stop()  # restores sys.stderr, which rich replaces


class TrainingProgress(ProgressBar):
    """Progress of one invocation of training: throughput, losses and a line per validation.

    Args:
      total_steps: of the run.
      steps_per_epoch: to show the epoch.
      batch_size: images per step.
      first_step: steps completed before this invocation.
      best: best value of `monitor` before this invocation, if any.
      monitor: validation metric that decides which validation is best.
      console: where to write; stderr by default.
      clock: returns seconds; for tests.
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
        super().__init__(total_steps, "compiling", first_step, console, clock)
        self._per_epoch, self._batch = steps_per_epoch, batch_size
        self._throughput = Throughput(clock)
        self._step, self._best, self._monitor = first_step, best, monitor
        self._train: Mapping[str, float] = {}
        self._ticked = self._started

    def __enter__(self) -> Self:
        super().__enter__()
        if not self.is_live:
            self.message("compiling the first step")
        return self

    def tick(self, step: int, metrics_of: Callable[[], Mapping[str, float]]) -> None:
        """Reports `step` completed steps without logged metrics; cheap, most calls do nothing.

        Args:
          step: of the run.
          metrics_of: returns loss and accuracy since the last update, if known.
        """
        now = self._clock()
        if now - self._ticked >= TICK_SECONDS:
            self._ticked = now
            self.trained(step, metrics_of() or self._train)

    def trained(self, step: int, metrics: Mapping[str, float]) -> None:
        """Reports the training loss and accuracy since the last report."""
        self._throughput.update(step)
        self._step, self._train = step, metrics
        self.update(step, *self._training_parts())

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        """Prints the loss and accuracy of a validation; the best so far is marked with `*`."""
        self._throughput.exclude_validation(step)
        self._step = step
        if is_best:
            self._best = metrics[self._monitor]
        width, mark = len(f"{self._total:,}"), "*" if is_best else " "
        parts = [
            self._epoch_text(),
            f"step {step:>{width},}",
            f"loss {self._train['loss']:.3f}" if "loss" in self._train else "",
            f"val loss {metrics['loss']:.3f} acc {metrics['accuracy']:.3f} {mark}",
            self._rate_text(),
            self._left_text(),
        ]
        self.message(*parts)
        if self.is_live:
            self.update(step, *self._training_parts())

    def _training_parts(self) -> list[str]:
        return [
            self._epoch_text(),
            f"loss {self._train['loss']:.3f}" if "loss" in self._train else "",
            f"acc {self._train['accuracy']:.3f}" if "accuracy" in self._train else "",
            self._rate_text(),
            self._left_text(),
            self._best_text(),
        ]

    def _epoch_text(self) -> str:
        epochs = -(-self._total // self._per_epoch)
        epoch = min(epochs, max(1, -(-self._step // self._per_epoch)))
        return f"epoch {epoch:>{len(str(epochs))}}/{epochs}"

    def _best_text(self) -> str:
        if self._best is None:
            return ""
        name = "acc" if self._monitor == "accuracy" else self._monitor.replace("_", " ")
        return f"best val {name} {self._best:.3f}"

    def _rate_text(self) -> str:
        rate = self._throughput.per_second
        return "" if rate is None else f"{rate * self._batch:,.0f} img/s"

    def _left_text(self) -> str:
        """Time to the last step; early stopping may end the run before."""
        seconds = self._throughput.seconds_for(self._total - self._step)
        return "" if not seconds else f"{clock_text(seconds)} left"


def _join(parts: Iterable[str]) -> str:
    return printable("  ".join(filter(None, parts)).rstrip())


def _is_live(console: Console) -> bool:
    """Whether the console is a terminal whose lines can be redrawn."""
    # With FORCE_COLOR rich takes a file for a terminal; control codes do not belong in a file.
    real = console.is_terminal and console.file.isatty() and not console.is_dumb_terminal
    # The terminal of a notebook's `!command` keeps every redraw as a line of its own.
    is_notebook = "JPY_PARENT_PID" in os.environ
    return real and bool(os.environ.get("TERM")) and not os.environ.get("CI") and not is_notebook


def _plain_interval(elapsed: float) -> float:
    """Seconds between plain lines: 10 at first, growing to 60 after ten minutes."""
    return min(60.0, max(10.0, elapsed / 10))


def clock_text(seconds: float) -> str:
    """Returns a duration as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
