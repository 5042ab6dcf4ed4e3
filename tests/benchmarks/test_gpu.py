"""The GPU measurement runs on CPUs at toy sizes, records failures, and is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu

ROOT = Path(__file__).parents[2]


def run(*command: str | Path) -> str:
    """Runs a command with this Python and returns its output."""
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHON": sys.executable},
    )  # fmt: skip
    return done.stdout


@pytest.mark.slow
def test_every_section_of_both_commands_is_recorded_and_printed(tmp_path):
    out = tmp_path / "toy.json"
    for command in ("1", "2"):
        run("bash", "benchmarks/gpu.sh", command, "--toy", "--out", out, "--budget", "900")
    content = json.loads(out.read_text())
    assert set(content["sections"]) == {*gpu.TOY, "memory"}
    failed = {name for name, one in content["sections"].items() if "failed" in one}
    assert failed <= {"light_vgg"}, content["sections"]  # PyTorch may be missing
    (task,) = content["tasks"].values()
    assert task["contenders"]["fer_jax"]["rounds"]
    table = run(sys.executable, "-m", "benchmarks.speed.table", out)
    for name, section in content["sections"].items():
        assert f"### {name}\n" in table
        assert all(f"| {' | '.join(row)} |" in table for row in section.get("rows", []))
    assert "| task | precision or source |" in table


@pytest.fixture
def two_sections(tmp_path, monkeypatch):
    """Command 1 is two sections, without a GPU; returns what it records, given time limits, s."""

    def record(first: float, second: float, budget: float = 60.0) -> dict[str, str]:
        sections = {"dispatch": gpu.Section(1, first), "profile": gpu.Section(1, second)}
        monkeypatch.setattr(gpu, "SECTIONS", sections)
        out = tmp_path / "gpu.json"
        arguments = ["gpu", "1", "--out", str(out), "--budget", str(budget)]
        monkeypatch.setattr(sys, "argv", arguments)
        gpu.main()
        found = json.loads(out.read_text())["sections"]
        return {name: found[name]["failed"] for name in sections}

    return record


def test_a_section_that_fails_is_recorded_and_the_next_one_runs(two_sections, monkeypatch):
    monkeypatch.setattr(gpu, "command_of", lambda *_: [
        sys.executable, "-c", "1 / 0"
    ])  # fmt: skip
    assert two_sections(30, 30) == dict.fromkeys(
        ("dispatch", "profile"), "ended with code 1: ZeroDivisionError: division by zero"
    )


def test_a_section_that_runs_out_of_time_is_ended(two_sections, monkeypatch):
    monkeypatch.setattr(gpu, "command_of", lambda *_: ["sleep", "60"])
    assert two_sections(1, 1) == dict.fromkeys(("dispatch", "profile"), "took longer than 1 s")


def test_without_time_left_no_section_starts(two_sections, monkeypatch):
    monkeypatch.setattr(gpu, "command_of", lambda *_: ["false"])
    assert set(two_sections(1, 1, budget=gpu.END_SECONDS).values()) == {"no time was left"}
