#!/usr/bin/env python3
"""Runs one job as several processes on this machine.

    python launch/local.py --processes 8 -- fer-jax train --config configs/kdef.py
    python launch/local.py --processes 2 --cpu_devices 2 -- fer-jax train --config ...

Starts one process per GPU, or processes with CPU devices. Output lines are prefixed with the
process number. SIGTERM and Ctrl-C are sent to all processes as SIGTERM, on which they save at one
common step; a second signal kills them. After a failure the other processes get a grace period
to exit, then are ended.
Uses only the standard library, so any Python can run it.
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
_KILL_SECONDS = 10.0  # between SIGTERM and SIGKILL, after the grace period


@dataclasses.dataclass(frozen=True)
class Plan:
    """A process to start.

    Attributes:
      number: process index, from 0.
      environment: variables added to the environment.
      command: the command line.
    """

    number: int
    environment: dict[str, str]
    command: tuple[str, ...]

    def __str__(self) -> str:
        added = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment.items())
        return f"{added} {shlex.join(self.command)}"


def count_gpus() -> int:
    """Returns the number of GPUs of this machine that CUDA_VISIBLE_DEVICES allows."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([gpu for gpu in visible.split(",") if gpu.strip() not in ("", "-1")])
    return len(glob.glob("/dev/nvidia[0-9]*"))


def free_port() -> int:
    """Returns an unused port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether no other program listens at a port of the loopback interface."""
    with socket.socket() as probe:
        # Ports of connections that have ended are free: as the coordinator asks, too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def make_plans(
    command: Sequence[str], processes: int, gpus: int, cpu_devices: int | None, port: int
) -> list[Plan]:
    """Returns the plan of each process.

    Args:
      command: command line of every process.
      processes: number of processes.
      gpus: number of GPUs; each process gets one.
      cpu_devices: CPU devices per process; None uses the GPUs.
      port: port of process 0 on the loopback interface, where the others connect.
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
    """The running processes, each the leader of a new process group."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._running: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        for plan in plans:
            process = subprocess.Popen(
                plan.command,
                env=os.environ | plan.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # the launcher passes on the terminal's Ctrl-C
                preexec_fn=_follow_parent,
            )
            reader = threading.Thread(target=_pass_on, args=(plan.number, process))
            reader.start()
            self._running.append(process)
            self._readers.append(reader)

    def send(self, signal_number: int) -> None:
        """Sends a signal to every running process and its descendants."""
        for process in self._running:
            if process.poll() is None:
                try:
                    os.killpg(process.pid, signal_number)
                except ProcessLookupError:
                    continue

    def codes(self) -> list[int | None]:
        """Returns exit codes: None for a running process, -N for one ended by signal N."""
        return [process.poll() for process in self._running]

    def join(self) -> None:
        """Kills leftover descendants and waits for the rest of the output."""
        for process in self._running:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        for reader in self._readers:
            reader.join(timeout=_KILL_SECONDS)


def _follow_parent() -> None:
    """Makes the kernel send SIGTERM to this child when the launcher dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _pass_on(number: int, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        # Whole lines only, because the output of several processes goes here.
        sys.stdout.write(f"[{number}] {line.rstrip()}\n")
        sys.stdout.flush()


def run(plans: Sequence[Plan], grace: float) -> int:
    """Runs the processes to their end.

    Args:
      plans: the processes to start.
      grace: seconds for the others to exit after one has failed.

    Returns:
      0 if all succeeded, else the first failure as a shell's exit code.
    """
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, receive)
    processes = Processes(plans)
    forwarded, first_failure = 0, 0
    reported: set[int] = set()  # numbers of the processes whose failure was reported
    scheduled: list[tuple[float, signal.Signals]] = []  # signals to send after a failure
    try:
        while None in (codes := processes.codes()):
            if len(received) > forwarded:
                processes.send(signal.SIGTERM if forwarded == 0 else signal.SIGKILL)
                forwarded = len(received)
            if not received:
                _report(codes, reported, grace)
            if not first_failure and any(codes):
                first_failure = next(code for code in codes if code)
                end = time.monotonic() + grace
                scheduled = [(end, signal.SIGTERM), (end + _KILL_SECONDS, signal.SIGKILL)]
            if scheduled and time.monotonic() > scheduled[0][0]:
                processes.send(scheduled.pop(0)[1])
            time.sleep(_POLL_SECONDS)
        if not received:
            _report(processes.codes(), reported, grace)
        failures = [code for code in processes.codes() if code]
        return _shell_code(first_failure or next(iter(failures), 0))
    finally:
        processes.join()


def _report(codes: Sequence[int | None], reported: set[int], grace: float) -> None:
    """Prints the failures of processes that are not in `reported`, and adds them."""
    for number, code in enumerate(codes):
        if code and number not in reported:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            waiting = not reported and None in codes
            rest = f"; the others have {grace:.0f} s to end" if waiting else ""
            print(f"launch: process {number} {how}{rest}", file=sys.stderr, flush=True)
            reported.add(number)


def _shell_code(code: int) -> int:
    return 128 - code if code < 0 else code


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; everything after `--` is the command."""
    parser = argparse.ArgumentParser(
        prog="python launch/local.py",
        description=(__doc__ or "").split("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument("--processes", type=int, help="default: one per GPU")
    parser.add_argument("--cpu_devices", type=int, help="CPU devices per process, instead of GPUs")
    parser.add_argument(
        "--grace",
        type=float,
        default=90,
        metavar="SECONDS",
        help="time for the others to exit after a failure (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, help="port of process 0 (default: a free one)")
    parser.add_argument(
        "--dry_run", action="store_true", help="print the commands without running them"
    )
    parser.add_argument("command", nargs="*", help="-- COMMAND ...")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the launcher; returns 2 after a message if the request is invalid."""
    options = parse(arguments)
    gpus = 0 if options.cpu_devices else count_gpus()
    processes = options.processes or gpus
    problem = _problem(options, processes, gpus)
    if problem:
        print(f"launch: {problem}", file=sys.stderr)
        return 2
    port = options.port or free_port()
    plans = make_plans(options.command, processes, gpus, options.cpu_devices, port)
    if options.dry_run:
        for plan in plans:
            print(plan)
        return 0
    return run(plans, options.grace)


def _problem(options: argparse.Namespace, processes: int, gpus: int) -> str:
    if not options.command:
        return "expected a command after --, found none; such as -- fer-jax train --config ..."
    if options.cpu_devices is None and not gpus:
        return (
            "expected GPUs, found none; for CPU devices: "
            f"--processes {options.processes or 2} --cpu_devices 2 -- COMMAND"
        )
    if processes < 1 or (options.cpu_devices is not None and options.cpu_devices < 1):
        return "expected at least 1 for --processes and --cpu_devices"
    if options.cpu_devices is None and processes > gpus:
        return f"expected at most one process per GPU ({gpus}), found --processes {processes}"
    if options.port and not options.dry_run and not is_free(options.port):
        return (
            f"expected a free port for --port, found {options.port}, which another program uses; "
            "leave --port out to get a free one"
        )
    return ""


if __name__ == "__main__":
    sys.exit(main())
