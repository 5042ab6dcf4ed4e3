"""Prediction needs nothing that only Linux has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_prediction_works_without_posix(tmp_path):
    """As on Windows, and on macOS, which has no sched_getaffinity."""
    photo = ROOT / "fer_jax/serve/examples/1_happiness.jpg"
    command = [sys.executable, "-m", "tests.inference.without_posix"]
    done = subprocess.run(
        [*command, photo, tmp_path / "out"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("happiness\n")
    assert "has no locks" not in done.stderr
    assert (tmp_path / "out/predictions.json").exists()
    assert (tmp_path / "out/annotated/1_happiness.jpg").exists()
