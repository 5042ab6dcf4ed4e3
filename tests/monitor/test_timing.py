"""Cost of an invocation: compilation, validations and saving are excluded."""

from __future__ import annotations

import pytest

from fer_jax.monitor.timing import Timing, append_cost, read_costs


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_throughput_excludes_what_is_not_training():
    clock = Clock()
    timing = Timing(first_step=10, batch_size=32, clock=clock)
    clock.now += 7  # data, compilation, the first step
    timing.fetched(11, waited=3.0)
    clock.now += 4
    with timing.exclude():
        clock.now += 50  # a validation
    timing.fetched(15, waited=9.0)  # only the first call counts
    clock.now += 6
    cost = timing.cost(31, waited=4.0)
    assert (cost.first_step, cost.last_step, cost.seconds) == (10, 31, 67)
    assert cost.seconds_to_first_step == 7
    assert cost.images_per_second == pytest.approx(20 * 32 / 10)
    assert cost.waiting_share == pytest.approx(0.1)
    assert cost.host_bytes > 10 * 2**20
    text = str(cost)
    for part in ("21 steps in 67.0 s", "first step after 7.0 s", "64 images/s", "10.0% of"):
        assert part in text


def test_what_was_not_measured_is_none():
    clock = Clock()
    timing = Timing(first_step=0, batch_size=32, clock=clock)
    assert timing.cost(1, 0.0).images_per_second is None
    timing.fetched(1, 0.0)
    assert timing.cost(1, 0.0).images_per_second is None
    assert "images/s" not in str(timing.cost(1, 0.0))


def test_costs_accumulate_in_the_run_directory(tmp_path):
    assert read_costs(tmp_path) == []
    for first in (0, 5):
        append_cost(tmp_path, Timing(first, 32).cost(first + 5, 0.0))
    assert [cost["last_step"] for cost in read_costs(tmp_path)] == [5, 10]
    (tmp_path / "timing.json").write_text("{")
    append_cost(tmp_path, Timing(10, 32).cost(15, 0.0))
    assert [cost["last_step"] for cost in read_costs(tmp_path)] == [15]
