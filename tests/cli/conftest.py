"""Fixtures for whole runs: a prepared data set, and settings that train in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# LightVGG on the included faces at 16 pixels: 35 steps per epoch, a few milliseconds each.
TINY = (
    "--config=configs/demo.py",
    "--config.data.size=16",
    "--config.train.epochs=4",
    "--config.train.eval_epochs=1",
    "--config.train.log_steps=7",
    "--config.train.pictures=0",
    "--config.eval.samples=2",
    "--config.eval.explain=false",
)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Returns the data_dir with `synthetic_faces/demo`, prepared once."""
    from tfds_builders import prepare as build

    folder = tmp_path_factory.mktemp("tfds")
    build.prepare("synthetic_faces", "demo", str(folder))
    return folder


class Cli:
    """Runs verbs in new processes, in an empty working directory."""

    def __init__(self, folder: Path, data_dir: Path | None) -> None:
        self.folder, self.data_dir = folder, data_dir

    def start(self, *arguments: str | Path, verb: str = "main") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"fer_jax.{verb}", *map(str, arguments)]
        if verb == "main" and self.data_dir:
            command.append(f"--config.data.dir={self.data_dir}")
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "JAX_NUM_CPU_DEVICES": "1",
        }
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str | Path, verb: str = "main") -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, verb=verb)
        out, err = process.communicate(timeout=900)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="session")
def cli_in(data_dir) -> Callable[[Path], Cli]:
    """Returns a function that makes a `Cli` with prepared data in a given folder."""
    return lambda folder: Cli(folder, data_dir)


@pytest.fixture
def cli(tmp_path, cli_in) -> Cli:
    return cli_in(tmp_path)


@pytest.fixture
def bare_cli(tmp_path) -> Cli:
    """Returns a `Cli` without prepared data, for input that is refused before data is read."""
    return Cli(tmp_path, None)
