#!/usr/bin/env python3
"""Starts one job as several processes on this machine, and ends them together.

    python launch/local.py --processes 8 -- python -m fer_jax.main --config configs/kdef.py
    python launch/local.py --processes 2 --cpu_devices 2 -- python -m fer_jax.main --config ...

One process for each GPU, or processes with CPU devices where there is none. Their output
is prefixed with their number. SIGTERM and Ctrl-C reach all of them as SIGTERM, at which they
save at one common step; a second one ends them at once. When one fails the others get a while
to end by themselves, then are ended.
Only the standard library is used, so any Python can run it.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import glob
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_SECONDS = 0.1
_KILL_SECONDS = 10.0  # between SIGTERM and SIGKILL, once the others have had their while


@dataclasses.dataclass(frozen=True)
class Plan:
    """One process: its number, what is added to its environment, and its command."""

    number: int
    environment: dict[str, str]
    command: tuple[str, ...]

    def __str__(self) -> str:
        added = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment.items())
        return f"{added} {shlex.join(self.command)}"


def count_gpus() -> int:
    """GPUs of this machine, or those that CUDA_VISIBLE_DEVICES leaves."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    return len(glob.glob("/dev/nvidia[0-9]*"))


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plan(
    command: Sequence[str], processes: int, gpus: int, cpu_devices: int | None, port: int
) -> list[Plan]:
    """What each process is started with.

    Args:
      command: of every process.
      processes: how many.
      gpus: of this machine; each process gets its own.
      cpu_devices: of each process, where no GPU is to be used; None uses the GPUs.
      port: where process 0 waits for the others, on the loopback interface only.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    plans = []
    for number in range(processes):
        environment = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(number),
        }
        if cpu_devices is not None:
            environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(cpu_devices)}
        else:
            environment["CUDA_VISIBLE_DEVICES"] = visible[number]
        plans.append(Plan(number, environment, tuple(command)))
    return plans


class Processes:
    """The running processes, each the leader of a process group of its own."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._running: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        for one in plans:
            process = subprocess.Popen(
                one.command,
                env=os.environ | one.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # the terminal's Ctrl-C comes through us, once
                preexec_fn=_follow_parent,
            )
            reader = threading.Thread(target=_pass_on, args=(one.number, process))
            reader.start()
            self._running.append(process)
            self._readers.append(reader)

    def send(self, number: int) -> None:
        """Sends a signal to every process that still runs, and to what it has started."""
        for process in self._running:
            if process.poll() is None:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    continue

    def codes(self) -> list[int | None]:
        """Exit codes, None where a process still runs; minus a signal's number."""
        return [process.poll() for process in self._running]

    def join(self) -> None:
        """Ends what processes have left behind, and waits for the last of their output."""
        for process in self._running:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        for reader in self._readers:
            reader.join(timeout=_KILL_SECONDS)


def _follow_parent() -> None:
    """In the child: SIGTERM when the launcher is gone, even by kill -9, so that none is orphaned.

    A process that gets SIGTERM saves first.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _pass_on(number: int, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        # Whole lines only: two processes write here.
        sys.stdout.write(f"[{number}] {line.rstrip()}\n")
        sys.stdout.flush()


def run(plans: Sequence[Plan], grace: float) -> int:
    """Runs to the end; 0 if all succeeded, else the first failure as a shell gives it.

    Args:
      plans: of the processes.
      grace: seconds that the others have to end by themselves when one has failed.
    """
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    processes = Processes(plans)
    passed_on, first_failure = 0, 0
    told: set[int] = set()  # the processes whose failure was reported
    pressure: list[tuple[float, signal.Signals]] = []  # what is sent when, after a failure
    try:
        while None in (codes := processes.codes()):
            if len(asked) > passed_on:
                processes.send(signal.SIGTERM if passed_on == 0 else signal.SIGKILL)
                passed_on = len(asked)
            if not asked:
                _report(codes, told, grace)
            if not first_failure and any(codes):
                first_failure = next(code for code in codes if code)
                end = time.monotonic() + grace
                pressure = [(end, signal.SIGTERM), (end + _KILL_SECONDS, signal.SIGKILL)]
            if pressure and time.monotonic() > pressure[0][0]:
                processes.send(pressure.pop(0)[1])
            time.sleep(_POLL_SECONDS)
        if not asked:
            _report(processes.codes(), told, grace)
        failures = [code for code in processes.codes() if code]
        return _shell_code(first_failure or next(iter(failures), 0))
    finally:
        processes.join()


def _report(codes: Sequence[int | None], told: set[int], grace: float) -> None:
    """Says how processes failed that are not in `told` yet, and adds them."""
    for number, code in enumerate(codes):
        if code and number not in told:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            rest = "" if told or None not in codes else f"; the others have {grace:.0f} s to end"
            print(f"launch: process {number} {how}{rest}", file=sys.stderr, flush=True)
            told.add(number)


def _shell_code(code: int) -> int:
    return 128 - code if code < 0 else code


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; everything behind `--` is the command."""
    parser = argparse.ArgumentParser(
        prog="python launch/local.py", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--processes", type=int, help="default: one for each GPU")
    parser.add_argument("--cpu_devices", type=int, help="use so many CPU devices in each process")
    parser.add_argument(
        "--grace", type=float, default=90, help="seconds after a failure (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, help="where they meet (default: a free one)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands, start none")
    parser.add_argument("command", nargs="*", help="-- COMMAND ...")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 2 with one message where the request cannot be met."""
    options = parse(arguments)
    gpus = 0 if options.cpu_devices else count_gpus()
    processes = options.processes or gpus
    problem = _problem(options, processes, gpus)
    if problem:
        print(f"launch: {problem}", file=sys.stderr)
        return 2
    port = options.port or free_port()
    plans = plan(options.command, processes, gpus, options.cpu_devices, port)
    if options.dry_run:
        for one in plans:
            print(one)
        return 0
    return run(plans, options.grace)


def _problem(options: argparse.Namespace, processes: int, gpus: int) -> str:
    if not options.command:
        return "expected a command behind --, found none: -- python -m fer_jax.main --config ..."
    if processes < 1 and not options.cpu_devices:
        return (
            "expected GPUs, found none; for CPU devices: --processes 2 --cpu_devices 2 -- COMMAND"
        )
    if processes < 1 or (options.cpu_devices is not None and options.cpu_devices < 1):
        return "expected --processes and --cpu_devices of at least 1"
    if options.cpu_devices is None and processes > gpus:
        return f"expected at most one process for each of the {gpus} GPUs, found {processes}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
