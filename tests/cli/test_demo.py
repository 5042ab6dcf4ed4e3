"""The demo config learns to recognize the emotions of people who are not in the training set."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_the_demo_generalizes_to_new_people(cli):
    done = cli.run("--config=configs/demo.py", "--workdir=run")
    assert done.returncode == 0, done.stderr
    report = json.loads((cli.folder / "run" / "report" / "report.json").read_text())
    assert report["count"] == 700
    assert report["card"]["leaks"] == 0
    # Three seeds gave 0.749 to 0.783; chance is 0.143. The lower bound is the documented one and
    # allows for the rounding of other processors.
    assert report["balanced_accuracy"] >= 0.65
