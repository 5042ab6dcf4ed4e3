"""Tests of launch/local.py: environment, prefixes, exit codes, signals, no leftover processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "launch" / "local.py"


def start(*arguments: str, code: str = "", processes: int = 2, grace: float = 30):
    """Starts the launcher with `code` in each process; the variable `me` is the process index."""
    body = "import os, signal, sys, time\nme = int(os.environ['JAX_PROCESS_ID'])\n"
    command = [sys.executable, "-u", "-c", body + textwrap.dedent(code)]
    return subprocess.Popen(
        [sys.executable, LAUNCHER, f"--processes={processes}", "--cpu_devices=2",
         f"--grace={grace}", *arguments, "--", *command],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(map(is_alive, pids)):
            return True
        time.sleep(0.05)
    return False


def read_pids(launcher: subprocess.Popen[str], count: int) -> list[int]:
    """Returns the pids that the processes print in their first lines."""
    assert launcher.stdout is not None
    return [int(launcher.stdout.readline().split()[1]) for _ in range(count)]


def test_processes_get_their_environment_and_output_is_prefixed():
    code = """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PLATFORMS",
             "JAX_NUM_CPU_DEVICES")
    print(*(os.environ[name] for name in names))
    print("no end of line", end="")
    """
    out, err = (done := start(code=code, processes=3)).communicate(timeout=60)
    assert done.returncode == 0, err
    lines = sorted(out.splitlines())
    assert [line[:4] for line in lines] == ["[0] ", "[0] ", "[1] ", "[1] ", "[2] ", "[2] "]
    environments = {line[4:] for line in lines if "127.0.0.1" in line}
    assert len(environments) == 1
    address, *rest = environments.pop().split()
    assert rest == ["3", "cpu", "2"]
    assert address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("failure", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)]
)
def test_a_failure_ends_the_others_and_is_the_exit_code(failure, code):
    body = f"""
    print(os.getpid())
    if me == 1:
        time.sleep(0.3)
        {failure}
    time.sleep(60)
    """
    launcher = start(code=body, grace=0.2)
    pids = read_pids(launcher, 2)
    _, err = launcher.communicate(timeout=60)
    assert launcher.returncode == code
    assert "launch: process 1" in err
    assert gone(pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_processes_once_and_they_may_finish(number):
    code = """
    seen = []
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, frame: seen.append(number))
    print(os.getpid())
    while not seen:
        time.sleep(0.02)
    time.sleep(0.3)
    print("saved", seen)
    sys.exit(128 + seen[0])
    """
    launcher = start(code=code)
    pids = read_pids(launcher, 2)
    launcher.send_signal(number)
    out, _ = launcher.communicate(timeout=60)
    assert sorted(out.splitlines()) == [f"[{me}] saved [15]" for me in (0, 1)]
    assert launcher.returncode == 128 + signal.SIGTERM
    assert gone(pids)


def test_a_second_signal_kills():
    code = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid())
    time.sleep(60)
    """
    launcher = start(code=code)
    pids = read_pids(launcher, 2)
    launcher.terminate()
    time.sleep(0.5)
    assert launcher.poll() is None
    launcher.terminate()
    launcher.communicate(timeout=20)
    assert launcher.returncode == 128 + signal.SIGKILL
    assert gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl exists on Linux only")
def test_a_killed_launcher_leaves_no_orphan():
    code = """
    print(os.getpid())
    time.sleep(60)
    """
    launcher = start(code=code)
    pids = read_pids(launcher, 2)
    launcher.kill()
    launcher.communicate(timeout=20)
    assert gone(pids)


def test_leftover_descendants_are_killed():
    code = """
    import subprocess
    print(subprocess.Popen(["sleep", "60"]).pid)
    """
    launcher = start(code=code)
    pids = read_pids(launcher, 2)
    launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    assert gone(pids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cpu_devices=2"], "expected a command after --"),
        (["--", "true"], "expected GPUs, found none"),
        (["--processes=2", "--", "true"], "CPU devices: --processes 2 --cpu_devices 2 -- COMMAND"),
        (["--cpu_devices=0", "--processes=1", "--", "true"], "expected at least 1 for"),
    ],
)
def test_invalid_requests_get_one_message(arguments, message):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, LAUNCHER, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        launcher = start(f"--port={port}")
        _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 2
    assert f"expected a free port for --port, found {port}" in said


def test_a_dry_run_prints_one_gpu_per_process():
    done = subprocess.run(
        [sys.executable, LAUNCHER, "--dry_run", "--port=4000", "--", "python", "-c", "a b"],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "4,6"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"JAX_COORDINATOR_ADDRESS=127.0.0.1:4000 JAX_NUM_PROCESSES=2 JAX_PROCESS_ID={number} "
        f"CUDA_VISIBLE_DEVICES={gpu} python -c 'a b'"
        for number, gpu in ((0, 4), (1, 6))
    ]
