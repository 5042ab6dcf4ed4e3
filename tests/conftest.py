"""What every test runs under: two CPU devices, no screen, one OpenCV thread, no TensorFlow.

Also the counting: `make test` says how many slow, parity and browser tests it left to
`make check`, and with `--no-skips` (make check) a skipped test is a failure, because there a
missing tool must be found out. The tests run in several processes (pytest-xdist), each of which
tells the first what it counted. Fixtures that only one room needs live in that room.
"""

from __future__ import annotations

import collections
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeVar

import pytest

# Set before anything imports them, so that tests without JAX or OpenCV do not pay for an import.
# Subprocesses that tests start inherit them.
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# Predictions in JAX, whether or not onnxruntime is installed; test_onnx_runtime.py has the other.
os.environ["FER_JAX_ONNXRUNTIME"] = "0"
# Tests compile the same small programs again and again. One folder a process: JAX's cache is not
# written atomically. The user's own stays as it is.
_programs = tempfile.TemporaryDirectory(prefix="fer_jax_tests_")
os.environ["FER_JAX_CACHE"] = _programs.name
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_programs.name, "programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

MARKERS = ("slow", "parity", "browser")
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

_left_out: collections.Counter[str] = collections.Counter()
_tensorflow: list[str] = []
"""The processes that have imported it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="count a skipped test as a failure")


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        _left_out.update(name for name in MARKERS if item.get_closest_marker(name))


def _refuse_skip(config: pytest.Config, report: Report) -> Report:
    if config.getoption("--no-skips") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which `make check` does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip(item.config, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip(collector.config, (yield))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a process of xdist's: says what was counted. In the first: judges."""
    if "tensorflow" in sys.modules:
        _tensorflow.append(os.environ.get("PYTEST_XDIST_WORKER", "this process"))
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["counted"] = [dict(_left_out), _tensorflow]
    elif _tensorflow:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """In the first process: takes over the counts; every process left out the same tests."""
    left_out, tensorflow = getattr(node, "workeroutput", {}).get("counted", [{}, []])
    _left_out.update(dict(left_out) if not _left_out else {})
    _tensorflow.extend(tensorflow)


# Outermost, so that these are the last lines before pytest's own count.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    yield
    if _tensorflow:
        terminalreporter.write_line("FAILED: a test imported TensorFlow; nothing here may")
    if terminalreporter.config.option.markexpr:
        skipped = len(terminalreporter.getreports("skipped"))
        counts = ", ".join(f"{_left_out[name]} {name}" for name in MARKERS)
        terminalreporter.write_line(f"skipped: {skipped}; left to `make check`: {counts}")


@pytest.fixture
def _hangup() -> Iterator[None]:
    """Undoes `nohup make test`: what the tests start would ignore SIGHUP too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
