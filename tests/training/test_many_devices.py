"""Training on several devices and processes matches one device: losses, parameters, counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fer_jax.runtime import sharding
from tests.training import many_devices

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "training" / "many_devices.py"
ONE = ("dropout/host", "batch_norm/host")
ALL = (*(f"{network}/{store}" for network in ("dropout", "batch_norm")
         for store in ("device", "host", "stream")), "dropout/sharded")  # fmt: skip
TOLERANCE = 1e-5

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Callable[..., Found]:
    """Runs the program and returns the results of each process, in order."""
    cache = tmp_path_factory.mktemp("cache")

    def start(cases: tuple[str, ...], devices: int, processes: int = 1) -> Found:
        out = tmp_path_factory.mktemp("out")
        launcher = [
            sys.executable, ROOT / "launch" / "local.py", f"--processes={processes}",
            f"--cpu_devices={devices}", "--",
        ]  # fmt: skip
        done = subprocess.run(
            [*(launcher if processes > 1 else ()), sys.executable, PROGRAM, out,
             f"--cases={','.join(cases)}"],
            env=os.environ | {
                "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices),
                "JAX_COMPILATION_CACHE_DIR": str(cache),
            },
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found = [json.loads((out / f"{number}.json").read_text()) for number in range(processes)]
        assert {one["devices"] for one in found} == {devices * processes}
        return found

    return start


@pytest.fixture(scope="module")
def one(run) -> dict[str, Any]:
    """Returns the results of one device, by network."""
    (found,) = run(ONE, devices=1)
    return {case.split("/")[0]: found[case] for case in ONE}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "devices", "cases"),
    [(1, 1, ("dropout/device", "dropout/stream")), (1, 2, ALL), (1, 4, ALL), (1, 8, ALL),
     (2, 2, ALL)],
)  # fmt: skip
def test_all_devices_and_processes_match_one_device(run, one, processes, devices, cases):
    found = run(cases, devices, processes)
    for case in cases:
        expected = one[case.split("/")[0]]
        digests = [digest for process in found for digest in process[case]["digests"]]
        assert len(digests) == processes * devices
        assert len(set(digests)) == 1, case
        for process in found:
            compare(process[case]["losses"], expected["losses"])
            assert process[case]["counts"] == expected["plain_counts"], case
            assert process[case]["plain_counts"] == expected["plain_counts"], case


def test_two_devices_match_one_with_batch_norm():
    found = {}
    for devices in (1, 2):
        mesh = sharding.data_mesh(devices=jax.devices()[:devices])
        state, losses = many_devices.train("tiny", "device", mesh)
        found[devices] = losses, many_devices.evaluate("tiny", "host", state, mesh)
    compare(found[2][0], found[1][0])
    assert found[1][1] == found[2][1] == many_devices.plain_counts("tiny", state)
    assert np.sum(found[2][1]) == many_devices.TESTED


def compare(found: list[float], expected: list[float]) -> None:
    assert len(found) == many_devices.STEPS
    assert len(set(found)) == many_devices.STEPS  # augmentation and dropout differ between steps
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
