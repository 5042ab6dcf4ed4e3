"""Tests of benchmarks/cpu_ops.py: each operation is really left out of the program."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cpu_ops
from benchmarks.speed.contenders import ours

ROOT = Path(__file__).parents[2]


def lowered_text(model, context):
    """Returns the StableHLO of a training step that is traced in `context`."""
    with context:
        training = cpu_ops.prepare(model, 40, 2, contextlib.nullcontext())
        program, source = training._program, ours.ResidentFeed.source
        return program.lower(training._state, source, training._items).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(cpu_ops.WITHOUT))
def test_each_operation_changes_the_program(name):
    model = "resnet18" if name in ("norm", "residual") else "light_vgg"
    with_all, again, without = (
        lowered_text(model, context)
        for context in (
            contextlib.nullcontext(),
            contextlib.nullcontext(),
            cpu_ops.WITHOUT[name](),
        )
    )
    assert with_all == again
    assert with_all != without


@pytest.mark.slow
def test_a_ratio_is_printed():
    command = [sys.executable, "-m", "benchmarks.cpu_ops", "--size=16", "--batch=8", "--rounds=1",
               "--seconds=0.01", "--without=all"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "baseline" in first
    assert "1.00 of the baseline's speed" in first
    assert "without all" in second
