"""Progress: correct figures, plain lines without a terminal, and no error ever stops the work."""

from __future__ import annotations

import io
import itertools
import os
import pty
import re
import subprocess
import sys

import pytest

from fer_jax.monitor.console import PlainConsole, TrainingProgress, track, wrap

TRAIN = {"loss": 1.25, "accuracy": 0.5}
VALIDATION = {"loss": 1.5, "accuracy": 0.625, "balanced_accuracy": 0.6}


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A file that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def _terminal_settings(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in (
        "CI", "COLUMNS", "FORCE_COLOR", "JPY_PARENT_PID", "NO_COLOR", "TTY_COMPATIBLE",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def make(clock, file, width=120, **changes):
    settings = {"total_steps": 1000, "steps_per_epoch": 100, "batch_size": 32, "first_step": 0}
    console = PlainConsole(file=file, width=width)
    return TrainingProgress(**(settings | changes), console=console, clock=clock)


def lines(file):
    return file.getvalue().splitlines()


def test_throughput_excludes_compilation_and_validation(clock):
    file = io.StringIO()
    with make(clock, file) as progress:
        clock.now += 60  # compilation and the first ten steps
        progress.trained(10, TRAIN)
        clock.now += 9  # ninety steps, ten a second
        progress.trained(100, TRAIN)
        clock.now += 5
        progress.evaluated(100, VALIDATION, is_best=True)
        clock.now += 10
        progress.trained(200, TRAIN)
        clock.now += 5
        progress.evaluated(200, VALIDATION, is_best=False)
    first, second = (line for line in lines(file) if "val loss" in line)
    assert first == (
        "epoch  1/10  step   100  loss 1.250  val loss 1.500 acc 0.625 *  320 img/s  2:20 left"
    )  # 900 steps in 90 s, and a validation of 5 s per 90 timed steps
    assert "acc 0.625    320 img/s" in second
    left = 800 * (0.1 + 10 / 190)
    assert f"{left // 60:.0f}:{round(left % 60):02} left" in second


def test_the_throughput_follows_a_change_of_speed(clock):
    file = io.StringIO()
    with make(clock, file, total_steps=100_000) as progress:
        for step in range(10, 3000, 10):
            clock.now += 1  # ten steps a second
            progress.trained(step, TRAIN)
        for step in range(3000, 3100, 10):
            clock.now += 10  # one a second
            progress.trained(step, TRAIN)
        progress.evaluated(3090, VALIDATION, is_best=True)
    assert "  32 img/s" in lines(file)[-1]


def test_nothing_is_shown_before_it_is_measured(clock):
    file = io.StringIO()
    with make(clock, file, first_step=500, best=0.7) as progress:
        clock.now += 60
        progress.trained(510, TRAIN)
        progress.evaluated(510, VALIDATION, is_best=False)
    text = file.getvalue()
    assert "img/s" not in text
    assert "left" not in text
    assert "best val acc 0.700" in text


def test_a_validation_before_any_training(clock):
    file = io.StringIO()
    with make(clock, file) as progress:
        progress.evaluated(0, VALIDATION, is_best=False)
        progress.trained(0, {})
    assert lines(file)[-1] == "epoch  1/10  step     0  val loss 1.500 acc 0.625"


def test_the_interval_of_plain_lines_grows(clock):
    file, times = io.StringIO(), []
    with make(clock, file, total_steps=10_000) as progress:
        for step in range(1, 2000):
            clock.now += 1
            before = len(lines(file))
            progress.trained(step, TRAIN)
            times += [step] * (len(lines(file)) - before)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == 10
    assert gaps[:5] == [10] * 5
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60


@pytest.mark.parametrize(
    "settings",
    [
        {"TERM": "dumb"},
        {"TERM": "unknown"},
        {"TERM": ""},
        {"CI": "true"},
        {"JPY_PARENT_PID": "1"},  # set by Jupyter, whose `!command` has a terminal
    ],
    ids=str,
)
def test_plain_lines_on_a_terminal_without_cursor_control(clock, monkeypatch, settings):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    check_plain(clock, Terminal())


def test_plain_lines_in_a_pipe_even_with_forced_colors(clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    check_plain(clock, io.StringIO())


def check_plain(clock, file):
    with make(clock, file) as progress:
        clock.now += 60
        progress.trained(100, TRAIN)
        progress.evaluated(100, VALIDATION, is_best=True)
        progress.message("[saved] :smile: in runs/demo " + "long " * 40)
    text = file.getvalue()
    assert text.isascii()
    assert "\r" not in text
    assert "\x1b[2K" not in text
    assert len(lines(file)) == 4
    assert lines(file)[-1].startswith("[saved] :smile: in runs/demo long")


@pytest.mark.parametrize("width", [1, 20, 79, 120, 300])
def test_the_bar_is_one_line(clock, width):
    file = Terminal()
    with make(clock, file, width=width) as progress:
        clock.now += 60
        progress.trained(10, TRAIN)
        clock.now += 9
        progress.trained(100, TRAIN)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert max(len(line) for line in text.replace("\r", "\n").split("\n")) <= width
    assert text.count("\n") <= 3
    if width >= 120:
        for part in ("100/1000", "epoch  1/10", "loss 1.250", "acc 0.500", "320 img/s", "1:30"):
            assert part in text


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        (1000, ["100/1000", "epoch  1/10", "loss 1.250", "acc 0.500", "320 img/s"]),
        (99_000, ["1000/99000", "epoch  10/990", "loss 1.250", "acc 0.500"]),
    ],
)
def test_at_80_columns_the_bar_is_shown_and_no_line_wraps(clock, steps, shown):
    file = Terminal()
    with make(clock, file, width=80, total_steps=steps) as progress:
        clock.now += 60
        progress.trained(10, TRAIN)
        clock.now += steps / 1000 * 9
        progress.trained(min(steps // 10, 1000), TRAIN)
        progress.evaluated(min(steps // 10, 1000), VALIDATION, is_best=True)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()).replace("\r", "\n")
    assert max(map(len, text.split("\n"))) <= 80
    (bar,) = {line for line in text.split("\n") if shown[0] in line}
    assert "━" in bar
    for part in shown:
        assert part in bar
    assert "val loss 1.500 acc 0.625 *" in text


def test_long_messages_break_between_words():
    path = "/a-folder/" + "run" * 30
    text = f"run: {path} of InceptionResNetV2 with 56,123,456 parameters, 60,544 statistics, 26.4"
    wrapped = wrap(text)
    assert " ".join(wrapped) == text
    assert [line for line in wrapped if len(line) > 80] == [path]


def test_tracked_items_are_counted_on_plain_lines(monkeypatch, capsys):
    now = itertools.count(0.0, 2.0)
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    assert list(track(iter("abcdefghijkl"), 12, "kdef")) == list("abcdefghijkl")
    assert re.match(r"3/12  kdef  \d+ images/s  \d:\d\d left\n", capsys.readouterr().err)


def test_validations_are_printed_above_the_bar(clock):
    file = Terminal()
    with make(clock, file) as progress:
        clock.now += 60
        progress.trained(100, TRAIN)
        progress.evaluated(100, VALIDATION, is_best=True)
    assert re.search(r"val loss 1\.500 acc 0\.625 \* *\x1b?.*\n", file.getvalue())


class Broken(Terminal):
    """A terminal that disconnects after some writes."""

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
def test_training_continues_when_the_terminal_disconnects(clock, monkeypatch, error, writes, tty):
    file = Broken(error, writes)
    monkeypatch.setattr(file, "isatty", lambda: tty)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    streams = sys.stdout, sys.stderr
    with make(clock, file) as progress:
        for step in range(1, 6):
            clock.now += 60
            progress.trained(step, TRAIN)
            progress.evaluated(step, VALIDATION, is_best=True)
        progress.message("done")
    assert (sys.stdout, sys.stderr) == streams  # rich replaces them while the bar is shown


def test_characters_outside_the_encoding_are_escaped(clock):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    with make(clock, file) as progress:
        progress.message("runs/müde \udcff")
    file.flush()
    assert raw.getvalue().endswith(b"runs/m\\xfcde \\udcff\n")


@pytest.mark.parametrize("settings", [{}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}], ids=str)
def test_on_a_real_terminal(settings):
    """Draws the bar on a pseudo-terminal, whatever the encoding."""
    code = (
        "from fer_jax.monitor.console import TrainingProgress\n"
        "with TrainingProgress(40, 10, 8, 0) as progress:\n"
        "    for step in range(1, 41):\n"
        "        progress.trained(step, {'loss': 1.0, 'accuracy': 0.5})\n"
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
        except OSError:  # the other end of the pseudo-terminal is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(master)
    assert process.wait() == 0
    assert b"40/40" in text
    assert b"val loss 1.000 acc 0.500 *" in text
