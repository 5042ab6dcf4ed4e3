"""Intervals compared with explicit loops and SciPy; their coverage is in tests/benchmarks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from fer_jax.report import scores
from fer_jax.report.intervals import Groups
from fer_jax.report.predictions import Predictions

STATISTICS = (scores.accuracy, scores.balanced_accuracy, scores.macro_f1)


def build(labels, predicted, groups, classes=3):
    return Predictions(
        ids=tuple(f"s{row}" for row in range(len(labels))),
        labels=np.asarray(labels),
        probabilities=np.eye(classes)[np.asarray(predicted)],
        groups=tuple(groups),
        label_names=tuple("abcdefgh"[:classes]),
    )


def draw(groups, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, len(groups))
    predicted = np.where(rng.random(len(groups)) < 0.7, labels, rng.integers(0, 3, len(groups)))
    return build(labels, predicted, groups)


def by_loop(predictions, statistic):
    """Scores without each group, one at a time."""
    names = [group or f"image {row}" for row, group in enumerate(predictions.groups)]
    value, without = float(statistic(predictions.confusion())), []
    for name in dict.fromkeys(names):
        rest = [row for row in range(len(names)) if names[row] != name]
        one = build(predictions.labels[rest], predictions.predicted[rest], [""] * len(rest))
        without.append(float(statistic(one.confusion())))
    count, deviations = len(without), np.array(without) - value
    error = np.sqrt((count - 1) / count * (deviations**2).sum()) / (value * (1 - value))
    kurtosis = (deviations**4).mean() / (deviations**2).mean() ** 2
    freedom = min(count - 1, 2 * count / (kurtosis - 1))
    ends = stats.t.interval(0.95, freedom, np.log(value / (1 - value)), error)
    return [1 / (1 + np.exp(-end)) for end in ends]


CASES = {
    "people": [f"p{row // 6}" for row in range(90)],
    "people of unequal weight": [f"p{int(row**0.6)}" for row in range(90)],
    "images": [""] * 90,
    "people and images": [f"p{row // 6}" if row < 60 else "" for row in range(90)],
}


@pytest.mark.parametrize("groups", CASES.values(), ids=CASES)
@pytest.mark.parametrize("statistic", STATISTICS)
def test_an_interval_equals_a_loop_over_groups(groups, statistic):
    predictions = draw(groups)
    interval = Groups.of(predictions).interval(statistic)
    assert [interval.low, interval.high] == pytest.approx(by_loop(predictions, statistic))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_more_images_of_the_same_people_do_not_narrow_it(statistic):
    one = draw(CASES["people"])
    twice = build(np.tile(one.labels, 2), np.tile(one.predicted, 2), one.groups * 2)
    first, second = (Groups.of(predictions).interval(statistic) for predictions in (one, twice))
    assert [first.low, first.high] == pytest.approx([second.low, second.high])
    images = Groups.of(build(twice.labels, twice.predicted, [""] * 180)).interval(statistic)
    assert images.high - images.low < 0.8 * (second.high - second.low)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("right", [True, False])
def test_without_variation_each_group_is_a_single_trial(statistic, right):
    labels = [0, 1] * 50
    predicted = labels if right else [1, 0] * 50
    predictions = build(labels, predicted, [f"p{row // 10}" for row in range(100)])
    interval = Groups.of(predictions).interval(statistic)
    exact = stats.binomtest(10 * right, 10).proportion_ci(0.95, "exact")
    assert [interval.low, interval.high] == pytest.approx([exact.low, exact.high])


@pytest.mark.parametrize(
    ("people", "images", "method"),
    [
        (12, 0, "jackknife over 12 people"),
        (0, 8, "jackknife over 8 images"),
        (9, 1, "jackknife over 9 people and 1 image of unknown origin"),
        (1, 40, "jackknife over 1 person and 40 images of unknown origin"),
        (7, 0, "8 people are needed for an interval; there are 7"),
        (1, 0, "8 people are needed for an interval; there is 1"),
        (0, 4, "8 images are needed for an interval; there are 4"),
    ],
)
def test_the_method_says_what_the_interval_is_over(people, images, method):
    groups = [f"p{row % people}" for row in range(60)] if people else []
    predictions = draw(groups + [""] * images)
    result = scores.score(predictions)
    assert result.interval_method == method
    has_interval = method.startswith("jackknife")
    assert result.interval_note == ("95% " if has_interval else "") + method
    for interval in (
        result.accuracy_interval, result.balanced_accuracy_interval, result.macro_f1_interval
    ):  # fmt: skip
        assert (interval is not None) == has_interval


@pytest.mark.parametrize(
    ("unit", "groups", "method"),
    [
        ("video", 12, "jackknife over 12 videos"),
        ("movie", 7, "8 movies are needed for an interval; there are 7"),
        ("group", 30, "jackknife over 30 groups"),
    ],
)
def test_the_groups_of_a_data_set_have_their_name(unit, groups, method):
    predictions = dataclasses.replace(draw([f"g{row % groups}" for row in range(60)]), unit=unit)
    assert scores.score(predictions).interval_method == method
