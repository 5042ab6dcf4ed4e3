"""The benchmark of the forms for CPUs: each is really left out of a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import forms

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(forms.WITHOUT))
def test_a_program_without_a_form_is_another_program(name):
    model = "resnet18" if name in ("normalization", "blocks") else "light_vgg"
    with_all, without = (
        forms.prepare(model, 40, 2, context).program.as_text()
        for context in (forms.nothing(), forms.WITHOUT[name]())
    )
    assert with_all != without


@pytest.mark.slow
def test_a_ratio_is_printed():
    command = [sys.executable, "-m", "benchmarks.forms", "--size=16", "--batch=8", "--rounds=1",
               "--seconds=0.01", "--without=any"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "all forms" in first
    assert "1.00 of all forms' speed" in first
    assert "without any" in second
