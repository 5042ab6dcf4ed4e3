"""What people watch while a network trains: a live line on a terminal, plain lines elsewhere.

Shows numbers that others computed; measures only time. Compiling is left out of the
images per second: the clock starts when the first step has been reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

PLAIN_SECONDS = 15.0  # between plain lines about training; every validation has one
SMOOTHING = 0.7  # weight of the past in the images per second


class Progress:
    """Reports one sitting of a training run.

    Args:
      total_steps: of the run.
      steps_per_epoch: to name the epoch.
      batch_size: images per step.
      first_step: steps that were done before this sitting.
      best: the best validation accuracy before this sitting, if any.
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
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._per_epoch, self._batch = total_steps, steps_per_epoch, batch_size
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._step = self._marked_step = first_step
        self._start: tuple[int, float] | None = None  # of the steps that are timed
        self._mark: float | None = None  # since when the steps after the last report run
        self._printed = clock()
        self._rate: float | None = None
        self._best = best
        self._train: Mapping[str, float] = {}
        self._live = self._make_live() if self._is_live() else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, step: int, means: Mapping[str, float]) -> None:
        """Reports training: `means` has loss and accuracy since the last report."""
        now = self._clock()
        if self._start is None:
            self._start = (step, now)
        elif self._mark is not None and now > self._mark:
            rate = (step - self._marked_step) * self._batch / (now - self._mark)
            past = rate if self._rate is None else self._rate
            self._rate = SMOOTHING * past + (1 - SMOOTHING) * rate
        self._step, self._marked_step, self._mark = step, step, now
        self._train = means
        if self._live:
            self._live.update(self._task, completed=step, status=self._status())
        elif now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            self.message(f"{self._place()}  {self._status()}")

    def evaluated(self, step: int, means: Mapping[str, float], is_best: bool) -> None:
        """Reports a validation: `means` has loss, accuracy and balanced accuracy."""
        if is_best:
            self._best = means["accuracy"]
        self._step = step
        star = "  best so far" if is_best else f"  (best {self._best:.3f})"
        self._printed = self._mark = self._clock()  # validation is no training time
        speed = f"  {self._rate:,.0f} images/s" if self._rate else ""
        self.message(
            f"{self._place()}  train loss {self._train.get('loss', float('nan')):.3f}"
            f"  validation loss {means['loss']:.3f} accuracy {means['accuracy']:.3f}"
            f"{star}{speed}{self._left()}"
        )
        if self._live:
            self._live.update(self._task, completed=step, status=self._status())

    def message(self, text: str) -> None:
        """Writes a line of its own."""
        console = self._live.console if self._live else self._console
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _is_live(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _make_live(self) -> RichProgress:
        live = RichProgress(
            TextColumn("training"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task = live.add_task("", total=self._total, completed=self._step, status="compiling")
        return live

    def _place(self) -> str:
        epoch = -(-self._step // self._per_epoch)
        epochs = -(-self._total // self._per_epoch)
        return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  step {self._step:>5,}"

    def _status(self) -> str:
        parts = []
        if self._train:
            parts.append(f"loss {self._train['loss']:.3f} acc {self._train['accuracy']:.3f}")
        if self._best is not None:
            parts.append(f"best {self._best:.3f}")
        if self._rate:
            parts.append(f"{self._rate:,.0f} images/s")
        return "  ".join(parts) + self._left()

    def _left(self) -> str:
        """Time to the last epoch at the pace of this sitting, validations included."""
        if self._start is None or self._step <= self._start[0] or self._step >= self._total:
            return ""
        done, began = self._step - self._start[0], self._start[1]
        seconds = (self._clock() - began) / done * (self._total - self._step)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f"  {clock} left"
