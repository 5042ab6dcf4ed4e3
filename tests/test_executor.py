"""Workers: order, losses, errors, and that none outlives its parent."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from fer_jax import executor
from fer_jax.errors import UserError
from fer_jax.executor import Executor

ROOT = pathlib.Path(__file__).parents[1]


def squares():
    return lambda number: number**2


def refusing():
    raise UserError("no such detector")


def dying(folder: pathlib.Path, times: int):
    """Returns work that kills its process at piece 3, the first `times` times."""

    def work(number: int) -> int:
        (folder / f"{number} {len(list(folder.glob(f'{number} *')))}").touch()
        if number == 3 and len(list(folder.glob("3 *"))) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return work


def threads():
    import cv2
    import jax

    def work(_: int) -> tuple[int, int, str | None, str | None]:
        jax.devices()
        names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
        eigen = sum("Eigen" in name for name in names)
        platforms = jax.config.jax_platforms
        return cv2.getNumThreads(), eigen, os.environ.get("OMP_NUM_THREADS"), platforms

    return work


@pytest.mark.parametrize("processes", [False, True])
def test_results_are_in_order_and_pieces_are_taken_as_needed(processes):
    taken = []

    def pieces():
        for number in range(100):
            taken.append(number)
            yield number

    done = Executor(2, processes=processes).map(squares, pieces())
    for number, result in enumerate(done):
        assert result == number**2
        assert len(taken) <= number + 2 * executor.IN_FLIGHT
    assert len(taken) == 100


@pytest.mark.parametrize("processes", [False, True])
def test_an_error_of_a_worker_is_raised_here(processes):
    with pytest.raises(UserError, match="no such detector"):
        next(Executor(1, processes=processes).map(refusing, [1]))


def test_a_killed_worker_loses_nothing_and_what_is_done_is_not_done_again(tmp_path):
    done = Executor(1).map(functools.partial(dying, tmp_path, 1), range(8))
    assert list(done) == list(range(8))
    counts = [len(list(tmp_path.glob(f"{number} *"))) for number in range(8)]
    assert counts == [1, 1, 1, 2, 1, 1, 1, 1]


def test_workers_that_are_killed_again_and_again_are_one_error(tmp_path):
    with pytest.raises(UserError, match="killed 3 times"):
        list(Executor(1).map(functools.partial(dying, tmp_path, 9), range(8)))


def test_a_worker_has_one_thread_for_opencv_xla_and_blas_and_no_gpu(monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert list(Executor(1).map(threads, [0])) == [(1, 1, "1", "cpu")]
    assert "OMP_NUM_THREADS" not in os.environ


def sleeping():
    return lambda seconds: time.sleep(seconds) or os.getpid()


def test_no_piece_is_waited_for_when_its_results_are_no_longer_wanted():
    started = time.monotonic()
    results = Executor(2).map(sleeping, [0, 600, 600, 600])
    worker = next(results)
    results.close()
    assert time.monotonic() - started < 300
    assert wait_for(lambda: not is_alive(worker))


def test_no_worker_outlives_its_parent(tmp_path):
    program = f"""
import os, pathlib, sys, time
from fer_jax.executor import Executor
def make():
    pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
    return time.sleep
if __name__ == "__main__":
    list(Executor(1).map(make, [600]))
"""
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")], env=environment
    ) as parent:
        worker = wait_for(lambda: [int(one.name) for one in tmp_path.glob("[0-9]*")])[0]
        parent.kill()
    assert wait_for(lambda: not is_alive(worker))


def wait_for(condition):
    until = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def is_alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return ") Z " not in pathlib.Path(f"/proc/{process}/stat").read_text()
    return False
