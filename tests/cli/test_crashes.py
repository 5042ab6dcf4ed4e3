"""A run that is killed repeatedly at random times ends bit-identical to an uninterrupted run."""

from __future__ import annotations

import signal

import pytest

from benchmarks import crashes

KILLS = 20


@pytest.fixture(scope="module")
def arguments(data_dir) -> list[str]:
    return [*crashes.SETTINGS, f"--config.data.dir={data_dir}", "--config.train.epochs=70"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, arguments):
    training = crashes.Training(tmp_path_factory.mktemp("unbroken"), arguments)
    training.finish()
    return crashes.final_bits(training.run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "sigterm"])
def test_a_killed_run_ends_bit_identical(tmp_path, arguments, unbroken, number):
    training = crashes.Training(tmp_path, arguments)
    tally = crashes.crash(training, KILLS, seed=1, number=number)
    print(tally)
    assert tally.kills == KILLS
    assert tally.saving  # some kills came during a save
    assert crashes.final_bits(training.run) == unbroken
