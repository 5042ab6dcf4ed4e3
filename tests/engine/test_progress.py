"""Progress: what is said on a terminal and in a pipe, and that its times are honest."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from fer_jax.engine.progress import PLAIN_SECONDS, Progress

MEANS = {"loss": 1.5, "accuracy": 0.25, "balanced_accuracy": 0.2}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def progress_on(terminal: bool, clock: Clock, **overrides):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=150,
                      _environ={} if terminal else {"TERM": "dumb"})  # fmt: skip
    settings = {"total_steps": 100, "steps_per_epoch": 10, "batch_size": 8, "first_step": 0}
    return Progress(**settings | overrides, console=console, clock=clock), file


def test_a_pipe_gets_plain_lines_now_and_then():
    clock = Clock()
    progress, file = progress_on(False, clock)
    with progress:
        for step in range(1, 41):
            clock.now += 1
            progress.update(step, MEANS)
    lines = file.getvalue().splitlines()
    assert len(lines) == 40 // PLAIN_SECONDS
    assert lines[0].startswith("epoch  2/10  step    15  loss 1.500 acc 0.250")
    assert file.getvalue().isascii()
    assert "\x1b" not in file.getvalue()


def test_a_terminal_gets_a_live_line():
    clock = Clock()
    progress, file = progress_on(True, clock)
    with progress:
        progress.update(10, MEANS)
        progress.evaluated(10, MEANS, is_best=True)
        progress.message("[a note] with brackets")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert "10/100" in text
    assert "best 0.250" in text
    assert "[a note] with brackets" in text


def test_compiling_and_validating_are_no_training_time():
    clock = Clock()
    progress, file = progress_on(False, clock)
    with progress:
        clock.now += 50  # compiling the training step
        progress.update(1, MEANS)
        clock.now += 2
        progress.update(11, MEANS)  # 10 steps of 8 images in 2 seconds
        clock.now += 30  # validating
        progress.evaluated(11, MEANS, is_best=True)
        clock.now += 2
        progress.update(21, MEANS)
        progress.evaluated(21, MEANS, is_best=False)
    lines = [line for line in file.getvalue().splitlines() if "validation" in line]
    assert all("  40 images/s" in line for line in lines)
    # 20 steps took 34 s since the clock started; 79 are left.
    assert lines[-1].endswith("2:14 left")
    assert "(best 0.250)" in lines[-1]


@pytest.mark.parametrize(
    ("per_step", "left"), [(0.5, "0:45 left"), (60, "1:30:00 left"), (0, "0:00 left")]
)
def test_time_left(per_step, left):
    clock = Clock()
    progress, file = progress_on(False, clock)
    with progress:
        for step in range(1, 11):
            progress.update(step, MEANS)
            clock.now += per_step * (step < 10)
        progress.evaluated(10, MEANS, is_best=True)
    assert file.getvalue().splitlines()[-1].endswith(left)


def test_a_continued_run_counts_from_where_it_was_and_knows_the_best():
    clock = Clock()
    progress, file = progress_on(False, clock, first_step=50, best=0.7)
    with progress:
        progress.update(60, MEANS)
        progress.evaluated(60, MEANS, is_best=False)
    assert file.getvalue().startswith("epoch  6/10  step    60")
    assert "(best 0.700)" in file.getvalue()
    assert "left" not in file.getvalue()  # nothing has been timed yet


def test_the_last_step_has_no_time_left():
    clock = Clock()
    progress, file = progress_on(False, clock)
    with progress:
        progress.update(90, MEANS)
        clock.now += 1
        progress.evaluated(100, MEANS, is_best=True)
    assert "left" not in file.getvalue()
