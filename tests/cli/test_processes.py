"""Several processes train like one: the same losses, a common stop, no deadlock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "launch" / "local.py"
EPOCHS = 3

pytestmark = pytest.mark.slow


def start(folder: Path, data_dir: Path, tiny: tuple[str, ...], processes: int, devices: int):
    """Starts a job with the launcher; its output goes to log.txt."""
    command = [
        sys.executable, LAUNCHER, f"--processes={processes}", f"--cpu_devices={devices}", "--",
        sys.executable, "-m", "fer_jax.main", *tiny, "--workdir=run",
        f"--config.data.dir={data_dir}", f"--config.train.epochs={EPOCHS}",
    ]  # fmt: skip
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def log_of(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def wait_for(folder: Path, text: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while text not in log_of(folder):
        assert time.monotonic() < end, log_of(folder)
        time.sleep(0.1)


def members(job: subprocess.Popen) -> dict[int, int]:
    """Returns the pid of each process of the job by its index."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            parent = (entry / "stat").read_text().rsplit(") ", 1)[1].split()[1]
            if parent == str(job.pid):
                environment = (entry / "environ").read_bytes().decode().split("\0")
                values = dict(line.split("=", 1) for line in environment if "=" in line)
                found[int(values["JAX_PROCESS_ID"])] = int(entry.name)
        except (OSError, IndexError, KeyError):
            continue
    return found


def digest_of(folder: Path) -> dict[str, str]:
    """Returns the digests in the last checkpoint."""
    checkpoints = folder / "run" / "checkpoints"
    last = max(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
    return json.loads((checkpoints / str(last) / "memory" / "metadata").read_text())["digests"]


def losses_of(folder: Path) -> dict[int, float]:
    rows = [
        json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data_dir, tiny) -> Path:
    """Returns a finished job of two processes with two devices each."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert start(folder, data_dir, tiny, 2, 2).wait(timeout=400) == 0, log_of(folder)
    return folder


def test_losses_match_one_process_on_one_device(unbroken, tmp_path, data_dir, tiny):
    assert start(tmp_path / "one", data_dir, tiny, 1, 1).wait(timeout=400) == 0
    one, four = losses_of(tmp_path / "one"), losses_of(unbroken)
    assert one.keys() == four.keys()
    early = [step for step in one if step <= 21]
    assert len(early) == 3
    for step in early:
        assert four[step] == pytest.approx(one[step], abs=1e-5)
    # Only one process wrote.
    assert log_of(unbroken).count("balanced (UAR)") == 1
    assert "[1] balanced" not in log_of(unbroken)


@pytest.mark.parametrize("victim", [0, 1])  # 0 is the coordinator
def test_a_killed_process_ends_the_job_which_resumes_bit_identical(
    unbroken, tmp_path, data_dir, tiny, victim
):
    job = start(tmp_path / "killed", data_dir, tiny, 2, 2)
    wait_for(tmp_path / "killed", "epoch 2/")  # the first checkpoint is complete
    pids = members(job)
    os.kill(pids[victim], signal.SIGKILL)
    assert job.wait(timeout=100) == 128 + signal.SIGKILL
    log = log_of(tmp_path / "killed")
    assert f"launch: process {victim} was ended by signal 9" in log
    assert f"launch: process {1 - victim} ended with exit code 75" in log
    assert "start the job again: it resumes from the last checkpoint" in log
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())

    assert start(tmp_path / "killed", data_dir, tiny, 2, 2).wait(timeout=400) == 0
    assert "resuming at step" in log_of(tmp_path / "killed")
    assert digest_of(tmp_path / "killed") == digest_of(unbroken)


def test_sigterm_saves_once_at_one_step(unbroken, tmp_path, data_dir, tiny):
    job = start(tmp_path / "asked", data_dir, tiny, 2, 2)
    # Before the first step: with a warm compilation cache the three epochs take a second.
    wait_for(tmp_path / "asked", "compiling the first step")
    job.terminate()
    assert job.wait(timeout=100) == 128 + signal.SIGTERM
    assert log_of(tmp_path / "asked").count("stopped and saved; to continue:") == 1
    assert start(tmp_path / "asked", data_dir, tiny, 2, 2).wait(timeout=400) == 0
    assert digest_of(tmp_path / "asked") == digest_of(unbroken)
