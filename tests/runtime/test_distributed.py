"""Tests of joining a job: environment variables, schedulers, lost processes."""

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

from fer_jax.errors import EXIT_PEER_LOST, EXIT_USER_ERROR, UserError
from fer_jax.runtime import distributed

ROOT = Path(__file__).parents[2]


def contract(address="10.0.0.1:4000", count="4", number="2") -> dict[str, str]:
    return {
        "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": count, "JAX_PROCESS_ID": number,
    }  # fmt: skip


SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, None),
        (contract(count="1", number="0"), None),
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_NTASKS": "4"}, None),  # in the batch script, not in a task
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        (contract(), ("10.0.0.1:4000", 4, 2)),
        (contract() | SLURM, ("10.0.0.1:4000", 4, 2)),  # the contract wins
        (SLURM, (None, None, None)),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, (None, None, None)),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, (None, None, None)),
        ({"MEGASCALE_COORDINATOR_ADDRESS": "a:1"}, (None, None, None)),
    ],
)
def test_the_job_is_read_from_the_environment(environment, expected):
    job = distributed.find_job(environment)
    found = None if job is None else (job.address, job.processes, job.number)
    assert found == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "set JAX_NUM_PROCESSES and JAX_PROCESS_ID too"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "set JAX_COORDINATOR_ADDRESS too"),
        (contract(number="4"), "from 0 to below it"),
        (contract(number="x"), "'x'"),
        (contract(count="0"), "at least 1"),
        (contract(address="host"), "host:port"),
    ],
)
def test_incomplete_variables_are_refused(environment, message):
    with pytest.raises(UserError, match=message):
        distributed.find_job(environment)


@pytest.mark.parametrize(
    ("address", "bound"),
    [("127.0.0.1:40", "127.0.0.1:40"), ("localhost:40", "127.0.0.1:40"), ("10.0.0.1:40", None),
     ("[::1]:40", "127.0.0.1:40"), ("node7:40", None)],
)  # fmt: skip
def test_on_one_machine_the_port_is_local(address, bound):
    job = distributed.find_job(contract(address=address))
    assert job is not None
    assert job.bind_address == bound


def test_a_job_that_cannot_be_joined_is_fatal(monkeypatch):
    import jax

    def fail(**_):
        raise RuntimeError("DEADLINE_EXCEEDED\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(
        UserError, match=r"4 processes at 10.0.0.1:4000\), found: DEADLINE_EXCEEDED"
    ):
        distributed.start(contract())


def test_a_port_in_use_is_reported_by_process_0(monkeypatch):
    import jax

    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: joined.append(1) or 1 / 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=f"free port in .*{address}.*choose another port"):
            distributed.start(contract(address, number="0"))
        assert not joined
        with pytest.raises(ZeroDivisionError):  # the others join
            distributed.start(contract(address, number="1"))


def run(code: str, *launcher: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in Python, behind the given launcher command."""
    return subprocess.run(
        [*launcher, sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


@pytest.mark.parametrize("listens", [True, False])
def test_an_abort_is_explained_if_the_coordinator_is_gone(listens):
    with socket.socket() as meeting_point:
        meeting_point.bind(("127.0.0.1", 0))
        if listens:
            meeting_point.listen()
        address = f"127.0.0.1:{meeting_point.getsockname()[1]}"
        done = run(f"""
            import os
            from fer_jax.runtime import distributed
            distributed.report_abort("{address}")
            os.abort()
        """)
    if listens:
        assert (done.returncode, done.stderr) == (-signal.SIGABRT, "")
    else:
        assert done.returncode == EXIT_PEER_LOST
        assert done.stderr.startswith("error: process 0 of the job is gone; start the job again")


def test_a_killed_lead_is_reported_by_the_other_process():
    code = """
    import os, time
    from fer_jax.runtime import distributed
    distributed.start()
    if distributed.is_lead():
        distributed._client().blocking_key_value_get("started", 60_000)
        os.kill(os.getpid(), 9)
    distributed._client().key_value_set("started", "")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass  # like a busy main thread
    """
    launcher = ROOT / "launch" / "local.py"
    done = run(code, sys.executable, str(launcher), "--processes=2", "--cpu_devices=1", "--")
    assert done.returncode == 128 + signal.SIGKILL
    said = [line for line in done.stdout.splitlines() if line.startswith("[1] error: ")]
    assert len(said) == 1
    assert said[0].startswith("[1] error: process 0 of the job is gone")
    assert said[0].endswith("start the job again: it resumes from the last checkpoint")
    assert [line.split(";")[0] for line in done.stderr.splitlines()] == [
        "launch: process 0 was ended by signal 9",
        f"launch: process 1 ended with exit code {EXIT_PEER_LOST}",
    ]


@pytest.mark.parametrize("who", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_the_failure_of_one_process_ends_the_job(who, tmp_path):
    code = f"""
    from pathlib import Path
    from fer_jax import errors
    from fer_jax.runtime import distributed

    with errors.exit_cleanly():
        distributed.start()
        distributed.min_over_processes([1])
        with distributed.report_lost_peers(Path("checkpoints")):
            if distributed.is_lead() == ({who} == 0):
                raise errors.UserError("no space is left")
            distributed.min_over_processes([2])
    """
    launcher = ROOT / "launch" / "local.py"
    began = time.monotonic()
    done = run(code, sys.executable, str(launcher), "--processes=2", "--cpu_devices=1", "--")
    assert time.monotonic() - began < 60  # JAX's timeout is five minutes
    # The exit code is that of the process whose end the launcher notices first.
    assert done.returncode in (EXIT_USER_ERROR, EXIT_PEER_LOST), done.stdout
    assert f"process {who} ended with exit code {EXIT_USER_ERROR}" in done.stderr
    said = done.stdout.splitlines()
    assert f"[{who}] error: no space is left" in said
    (other,) = (line for line in said if line.startswith(f"[{1 - who}] error:"))
    assert "of the job is gone; start the job again" in other
    assert f"process {1 - who} ended with exit code {EXIT_PEER_LOST}" in done.stderr
