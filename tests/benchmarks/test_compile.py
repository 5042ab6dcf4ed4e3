"""The table of first steps: a cold start compiles, a warm one does not wait for its program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_cold_and_a_warm_start(monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "1")
    command = [sys.executable, "-m", "benchmarks.compile", "--model=light_vgg", "--size=16",
               "--batch=8", "--steps=1", "--warm=1"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    head, _, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    cold, warm = (dict(zip(head, row, strict=True)) for row in rows)
    assert (cold["start"], warm["start"]) == ("cold", "warm")
    assert float(warm["program"]) < float(cold["program"]) / 2
    assert float(warm["CPU s"]) < float(cold["CPU s"])
