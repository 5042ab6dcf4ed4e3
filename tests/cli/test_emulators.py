"""Runs in emulated services, S3 and Google Cloud Storage: killed in the middle, and resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fer_jax import buckets

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "launch" / "local.py"
EPOCHS = 3

SERVERS = {
    "s3": ["-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}"],
    "gs": ["-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", "{port}",
           "--in-memory"],
}  # fmt: skip
VARIABLES = {
    "s3": {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    },
    "gs": {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:{port}"},
}

# s3fs and gcsfs close their connections when they are collected.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclasses.dataclass
class Service:
    """An emulated service with a bucket."""

    scheme: str
    environment: dict[str, str]
    system: Any

    @property
    def run(self) -> str:
        return f"{self.scheme}://bucket/runs/tiny"

    def read(self, name: str) -> Any:
        """Returns a JSON object of the run; None if it is missing."""
        self.system.invalidate_cache()
        try:
            return json.loads(self.system.cat_file(f"bucket/runs/tiny/{name}"))
        except FileNotFoundError:
            return None

    @property
    def digests(self) -> dict[str, str]:
        """Of the last checkpoint that is whole in the bucket."""
        found = self.read(".fer_jax/files.json")["files"]
        steps = {int(name.split("/")[1]) for name in found if name.startswith("checkpoints/")}
        return self.read(f"checkpoints/{max(steps)}/memory/metadata")["digests"]


@pytest.fixture(params=["s3", "gs"])
def service(request, monkeypatch, tmp_path) -> Iterator[Service]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scheme = request.param
    command = [sys.executable, *(part.format(port=port) for part in SERVERS[scheme])]
    environment = {name: text.format(port=port) for name, text in VARIABLES[scheme].items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "cache"))
    with open(tmp_path / "server.txt", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(port))
        system = fsspec.filesystem(scheme, skip_instance_cache=True)
        system.mkdir("bucket")
        yield Service(scheme, environment, system)
    finally:
        server.kill()
        server.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_for(holds, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """Starts a process in an empty folder; its output goes to log.txt."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=log, stderr=log
        )


def log_of(folder: Path) -> str:
    return (folder / "log.txt").read_text()


@pytest.fixture
def training(tiny, data_dir) -> list[str]:
    return [
        "-m", "fer_jax.main", *tiny, f"--config.train.epochs={EPOCHS}",
        f"--config.data.dir={data_dir}",
    ]  # fmt: skip


def test_contents_are_stored_as_they_are(service):
    ends = [b"", b"\r", b"a\r", b"a\n", b"a\r\n", b"a\n\r", b"a\n--==0==--"]
    contents = enumerate([*ends, bytes(range(256)) * 99])
    paths = {f"bucket/{number}": content for number, content in contents}
    buckets.write(service.system, paths)
    assert service.system.cat(list(paths)) == paths


def test_a_run_killed_twice_ends_with_the_bits_of_an_unbroken_one(
    service, training, tmp_path, monkeypatch
):
    command = [*training, "--workdir", service.run]
    for epoch in (1, 2):
        process = start(tmp_path / "killed", *command)
        wait_for(lambda epoch=epoch: f"checkpoints/{35 * epoch}/" in str(
            service.read(".fer_jax/owner.json") or ""
        ))  # fmt: skip
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, log_of(tmp_path / "killed")
        # The second start is on another machine, which waits for the owner that does not come.
        monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / f"cache {epoch % 2}"))
    assert start(tmp_path / "killed", *command).wait(timeout=900) == 0, log_of(tmp_path / "killed")
    assert "which did not end its work there" in log_of(tmp_path / "killed")
    assert start(tmp_path / "unbroken", *training, "--workdir=run").wait(timeout=900) == 0
    last = tmp_path / "unbroken/run/checkpoints" / str(35 * EPOCHS) / "memory/metadata"
    assert service.digests == json.loads(last.read_text())["digests"]
    assert service.read(".fer_jax/owner.json") is None
    assert service.read("report/report.json") is not None


def test_processes_without_a_shared_disk_train_one_run(service, training, tmp_path):
    """Each process has copies of its own, as on hosts of a pod."""
    job = [str(LAUNCHER), "--processes=2", "--cpu_devices=1", "--", sys.executable, *training]
    assert start(tmp_path / "a", *job, "--workdir", service.run).wait(timeout=900) == 0, log_of(
        tmp_path / "a"
    )
    assert start(tmp_path / "b", *job, "--workdir=run").wait(timeout=900) == 0
    last = tmp_path / "b/run/checkpoints" / str(35 * EPOCHS) / "memory/metadata"
    assert service.digests == json.loads(last.read_text())["digests"]
