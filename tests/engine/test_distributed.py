"""Who a process is: the contract, what schedulers say, and one clear refusal of half of it."""

from __future__ import annotations

import pytest

from fer_jax.engine import distributed
from fer_jax.errors import UserError


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
        ({"SLURM_NTASKS": "4"}, None),  # in the batch script, which is no task
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
def test_who_a_process_is(environment, expected):
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
def test_half_a_contract_is_refused(environment, message):
    with pytest.raises(UserError, match=message):
        distributed.find_job(environment)


@pytest.mark.parametrize(
    ("address", "bound"),
    [("127.0.0.1:40", "127.0.0.1:40"), ("localhost:40", "127.0.0.1:40"), ("10.0.0.1:40", None),
     ("[::1]:40", "127.0.0.1:40"), ("node7:40", None)],
)  # fmt: skip
def test_on_one_machine_no_port_is_open_to_others(address, bound):
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
