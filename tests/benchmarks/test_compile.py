"""Tests of the start benchmarks: a warm start is cheaper than a cold one; figures are printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rows_of(*arguments: str) -> list[dict[str, str]]:
    """Runs a benchmark and returns the rows of its table by column."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    head, _, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.slow
def test_a_cold_and_a_warm_start(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")  # the benchmark fills one itself
    cold, warm = rows_of(
        "benchmarks.compile", "--model=light_vgg", "--size=16", "--batch=8", "--steps=1", "--warm=1"
    )
    assert (cold["start"], warm["start"]) == ("cold", "warm")
    assert float(warm["first step"]) < float(cold["first step"])
    assert float(warm["CPU s"]) < float(cold["CPU s"])


@pytest.mark.slow
def test_startup_of_import_and_help():
    rows = rows_of("benchmarks.startup", "--rounds=1")
    assert [row["command"] for row in rows] == [
        "python -c pass", "import fer_jax", "fer-jax train --help", "fer-jax predict PHOTO",
    ]  # fmt: skip
    assert all(float(row["peak MiB"]) > 1 for row in rows)
