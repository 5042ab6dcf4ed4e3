"""Tests of stop requests: the first sets a flag, a second SIGINT ends the process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from fer_jax.runtime.signals import StopRequest, interrupt_on_terminate

# Prints when it listens and which signal it got; the test may send a second one.
LISTEN = """
import signal, time
from fer_jax.runtime.signals import StopRequest
with StopRequest() as stop:
    print("listening", flush=True)
    while stop.signal is None:
        time.sleep(0.01)
    print("asked", stop.signal, flush=True)
    time.sleep(2)
    print("saved", flush=True)
"""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("second", "code", "saved"),
    [(None, 0, True), (signal.SIGTERM, 0, True), (signal.SIGINT, 130, False)],
)
@pytest.mark.usefixtures("_hangup")
def test_stop_requests(first, second, code, saved):
    process = subprocess.Popen([sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "listening\n"
    process.send_signal(first)
    assert process.stdout.readline() == f"asked {int(first)}\n"
    if second is not None:
        process.send_signal(second)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert ("saved" in out) == saved


# The main thread is in C code and runs no Python handler, as in a long compilation.
DEAF = """
from fer_jax.runtime.signals import StopRequest
import jax, jax.numpy as jnp
with StopRequest() as stop:
    print("listening", flush=True)
    spin = jax.jit(lambda x: jax.lax.while_loop(lambda y: y < 2, lambda y: y * 0.5, x))
    print("running", flush=True)
    jax.block_until_ready(spin(jnp.float32(1)))
"""


def test_a_second_ctrl_c_does_not_wait_for_a_step():
    command = [sys.executable, "-c", DEAF]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "listening\n"
        assert process.stdout.readline() == "running\n"
        time.sleep(1)  # until it computes
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


def test_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert stop.signal is None


def test_nohup_is_respected():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest(), interrupt_on_terminate():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_swallowed_ctrl_c_is_remembered():
    with (
        interrupt_on_terminate(signal.SIGINT) as received,
        contextlib.suppress(KeyboardInterrupt),
    ):
        signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGINT]


def test_outside_the_main_thread_no_handler_is_installed():
    seen = []

    def enter():
        with StopRequest() as stop:
            seen.append(stop.signal)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [None]
