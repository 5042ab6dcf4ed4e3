"""Progress: honest figures, plain where nobody watches, and never a reason to stop."""

from __future__ import annotations

import io
import itertools
import os
import pty
import re
import subprocess
import sys

import pytest

from fer_jax.monitor.console import PlainConsole, Progress

TRAIN = {"loss": 1.25, "accuracy": 0.5}
VALIDATION = {"loss": 1.5, "accuracy": 0.625, "balanced_accuracy": 0.6}


class Clock:
    """Time that passes when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def _terminal_settings(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("CI", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def make(clock, file, width=120, **changes):
    settings = {"total_steps": 1000, "steps_per_epoch": 100, "batch_size": 32, "first_step": 0}
    console = PlainConsole(file=file, width=width)
    return Progress(**(settings | changes), console=console, clock=clock)


def lines(file):
    return file.getvalue().splitlines()


def test_images_per_second_leave_out_compiling_and_validation(clock):
    file = io.StringIO()
    with make(clock, file) as progress:
        clock.now += 60  # compiling and the first ten steps
        progress.update(10, TRAIN)
        clock.now += 9  # ninety steps, ten a second
        progress.update(100, TRAIN)
        clock.now += 5
        progress.evaluated(100, VALIDATION, is_best=True)
        clock.now += 10
        progress.update(200, TRAIN)
        clock.now += 5
        progress.evaluated(200, VALIDATION, is_best=False)
    first, second = (line for line in lines(file) if "validation" in line)
    assert first == (
        "epoch  1/10  step   100  train loss 1.250  validation loss 1.500 accuracy 0.625  "
        "best so far  320 images/s  2:20 left"
    )  # 900 steps in 90 s, and a validation of 5 s per 90 timed steps
    assert "(best 0.625)  320 images/s" in second
    left = 800 * (0.1 + 10 / 190)
    assert f"{left // 60:.0f}:{round(left % 60):02} left" in second


def test_the_rate_follows_a_change_of_pace(clock):
    file = io.StringIO()
    with make(clock, file, total_steps=100_000) as progress:
        for step in range(10, 3000, 10):
            clock.now += 1  # ten steps a second
            progress.update(step, TRAIN)
        for step in range(3000, 3100, 10):
            clock.now += 10  # one a second
            progress.update(step, TRAIN)
        progress.evaluated(3090, VALIDATION, is_best=True)
    assert "  32 images/s" in lines(file)[-1]


def test_nothing_is_claimed_before_it_is_measured(clock):
    file = io.StringIO()
    with make(clock, file, first_step=500, best=0.7) as progress:
        clock.now += 60
        progress.update(510, TRAIN)
        progress.evaluated(510, VALIDATION, is_best=False)
    text = file.getvalue()
    assert "images/s" not in text
    assert "left" not in text
    assert "(best 0.700)" in text


def test_a_validation_without_training_before(clock):
    file = io.StringIO()
    with make(clock, file) as progress:
        progress.evaluated(0, VALIDATION, is_best=False)
        progress.update(0, {})
    assert lines(file)[-1] == "epoch  1/10  step     0  validation loss 1.500 accuracy 0.625"


def test_plain_lines_come_at_intervals_that_grow(clock):
    file, times = io.StringIO(), []
    with make(clock, file, total_steps=10_000) as progress:
        for step in range(1, 2000):
            clock.now += 1
            before = len(lines(file))
            progress.update(step, TRAIN)
            times += [step] * (len(lines(file)) - before)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == 10
    assert gaps[:5] == [10] * 5
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60


@pytest.mark.parametrize(
    "settings",
    [{"TERM": "dumb"}, {"TERM": "unknown"}, {"TERM": ""}, {"CI": "true"}],
    ids=str,
)
def test_plain_where_a_line_cannot_be_written_again(clock, monkeypatch, settings):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    check_plain(clock, Terminal())


def test_plain_in_a_pipe_even_if_colours_are_forced(clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    check_plain(clock, io.StringIO())


def check_plain(clock, file):
    with make(clock, file) as progress:
        clock.now += 60
        progress.update(100, TRAIN)
        progress.evaluated(100, VALIDATION, is_best=True)
        progress.message("[saved] :smile: in runs/demo " + "long " * 40)
    text = file.getvalue()
    assert text.isascii()
    assert "\r" not in text
    assert "\x1b[2K" not in text
    assert len(lines(file)) == 4
    assert lines(file)[-1].startswith("[saved] :smile: in runs/demo long")


@pytest.mark.parametrize("width", [1, 20, 79, 120, 300])
def test_the_live_line_is_one_line(clock, width):
    file = Terminal()
    with make(clock, file, width=width) as progress:
        clock.now += 60
        progress.update(10, TRAIN)
        clock.now += 9
        progress.update(100, TRAIN)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert max(len(line) for line in text.replace("\r", "\n").split("\n")) <= width
    assert text.count("\n") <= 3
    if width >= 120:
        for part in ("100/1000", "epoch 1", "loss 1.250", "accuracy 0.500", "320 images/s", "1:30"):
            assert part in text


def test_validations_stay_above_the_live_line(clock):
    file = Terminal()
    with make(clock, file) as progress:
        clock.now += 60
        progress.update(100, TRAIN)
        progress.evaluated(100, VALIDATION, is_best=True)
    assert re.search(
        r"validation loss 1\.500 accuracy 0\.625  best so far *\x1b?.*\n", file.getvalue()
    )


class Broken(Terminal):
    """A terminal that goes away after some writes."""

    def __init__(self, error, writes):
        super().__init__()
        self.error, self.writes = error, writes

    def write(self, text):
        self.writes -= 1
        if self.writes < 0:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("writes", range(5))
@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "I/O error"), ValueError("closed")]
)
def test_training_goes_on_when_the_terminal_is_gone(clock, monkeypatch, error, writes, tty):
    file = Broken(error, writes)
    monkeypatch.setattr(file, "isatty", lambda: tty)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    borrowed = sys.stdout, sys.stderr
    with make(clock, file) as progress:
        for step in range(1, 6):
            clock.now += 60
            progress.update(step, TRAIN)
            progress.evaluated(step, VALIDATION, is_best=True)
        progress.message("done")
    assert (sys.stdout, sys.stderr) == borrowed  # rich takes them while its line is live


def test_names_that_the_terminal_cannot_show_are_escaped(clock):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    with make(clock, file) as progress:
        progress.message("runs/müde \udcff")
    file.flush()
    assert raw.getvalue().endswith(b"runs/m\\xfcde \\udcff\n")


@pytest.mark.parametrize("settings", [{}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}], ids=str)
def test_on_a_real_terminal(settings):
    """A pseudo terminal: the bar is drawn and gone at the end, whatever the encoding."""
    code = (
        "from fer_jax.monitor.console import Progress\n"
        "with Progress(40, 10, 8, 0) as progress:\n"
        "    for step in range(1, 41):\n"
        "        progress.update(step, {'loss': 1.0, 'accuracy': 0.5})\n"
        "    progress.evaluated(40, {'loss': 1.0, 'accuracy': 0.5}, is_best=True)\n"
    )
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"} | settings
    process = subprocess.Popen([sys.executable, "-c", code], stderr=slave, env=environment)
    os.close(slave)
    text = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # how a pseudo terminal says that its other end is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(master)
    assert process.wait() == 0
    assert b"40/40" in text
    assert b"best so far" in text
