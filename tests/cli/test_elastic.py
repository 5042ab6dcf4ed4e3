"""A run resumes on other devices and processes with the same batches and losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

# With dropout, and a kernel large enough to be sharded; 5 steps per epoch.
NETWORK = (
    "--config=configs/demo.py",
    "--config.data.size=24",
    "--config.train.batch_size=448",
    "--config.train.log_steps=1",
    "--config.train.pictures=0",
    "--config.eval.samples=1",
    "--config.eval.explain=false",
    "--config.optim.schedule=constant",  # does not depend on the length of the run
    # Adam makes full updates from gradients that are zero except for rounding.
    "--config.optim.name=sgd",
    "--config.optim.learning_rate=1e-2",
)


def train(folder, data_dir, epochs, processes=1, devices=1, *settings):
    """Trains up to `epochs` and returns the output."""
    command = [
        sys.executable, ROOT / "launch" / "local.py", f"--processes={processes}",
        f"--cpu_devices={devices}", "--", sys.executable, "-m", "fer_jax.main", *NETWORK,
        f"--workdir={folder}", f"--config.data.dir={data_dir}",
        f"--config.train.epochs={epochs}", *settings,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, text=True, timeout=400,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def losses_of(folder):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


@pytest.mark.slow
def test_a_run_resumes_on_other_devices_and_processes(tmp_path, data_dir):
    unbroken, moved = tmp_path / "unbroken", tmp_path / "moved"
    train(unbroken, data_dir, 4)
    train(moved, data_dir, 1)
    said = train(moved, data_dir, 2, 1, 4, "--config.train.fsdp=4")
    assert "devices 1, then 4" in said
    assert "train.fsdp was 1 and is 4 from now on" in said
    said = train(moved, data_dir, 3, 2, 2, "--config.train.fsdp=2", "--config.data.store=device")
    assert "processes 1, then 2" in said
    assert "devices was" not in said
    said = train(moved, data_dir, 4)
    assert "devices 4, then 1" in said
    assert said.count("resuming at step 15 of 20") == 1

    expected, found = losses_of(unbroken), losses_of(moved)
    assert list(found) == list(expected) == list(range(1, 21))
    assert len(set(expected.values())) == 20
    # Rounding depends on how a batch is split, and the differences grow with each step.
    for begin, end, tolerance in ((0, 15, 1e-5), (15, 20, 1e-4)):
        np.testing.assert_allclose(
            [*found.values()][begin:end], [*expected.values()][begin:end], atol=tolerance
        )
