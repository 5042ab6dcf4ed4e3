"""The benchmark of the forms for CPUs: each is really left out of a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cpu_ops as forms
from benchmarks.speed.contenders import ours

ROOT = Path(__file__).parents[2]


def text(model, context):
    """The program of a step that is traced in `context`, as it is given to XLA."""
    with context:
        training = forms.prepare(model, 40, 2, forms.nothing())
        return training._program._jitted.lower(
            training._state, ours.Held.source, training._items
        ).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(forms.WITHOUT))
def test_a_program_without_a_form_is_another_program(name):
    model = "resnet18" if name in ("normalization", "blocks") else "light_vgg"
    with_all, again, without = (
        text(model, context)
        for context in (forms.nothing(), forms.nothing(), forms.WITHOUT[name]())
    )
    assert with_all == again
    assert with_all != without


@pytest.mark.slow
def test_a_ratio_is_printed():
    command = [sys.executable, "-m", "benchmarks.cpu_ops", "--size=16", "--batch=8", "--rounds=1",
               "--seconds=0.01", "--without=any"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "all forms" in first
    assert "1.00 of all forms' speed" in first
    assert "without any" in second
