"""Paired comparisons beside SciPy and statsmodels' definitions, and how often they reject."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from fer_jax.experiments import paired


def correct_of(people: int, images: int, rng: np.random.Generator, gain: float = 0.0) -> np.ndarray:
    """bool[2, people * images]: two networks, each with its own good and bad people."""
    logits = rng.normal(1, 1, (people, 1, 1)) + rng.normal(0, 0.7, (people, 1, 2))
    logits = logits + rng.normal(0, 1, (people, images, 1)) + gain * np.array([1, 0])
    right = rng.random((people, images, 2)) < 1 / (1 + np.exp(-logits))
    return right.reshape(-1, 2).T.astype(np.float64)


def people_of(people: int, images: int) -> list[str]:
    return [f"p{number}" for number in range(people) for _ in range(images)]


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        # 3 * .01, 2 * .03, 1 * .04, never falling.
        ([0.04, 0.01, 0.03], [0.06, 0.03, 0.06]),
        ([0.5, 0.6], [1.0, 1.0]),
    ],
)
def test_holm(p_values: list[float], adjusted: list[float]) -> None:
    assert paired.holm(p_values) == pytest.approx(adjusted)


def test_mcnemar_counts_the_images_that_one_network_alone_recognizes() -> None:
    correct = np.array([[1, 1, 1, 1, 1, 1, 0, 1], [1, 0, 0, 0, 0, 0, 1, 0]], np.float64)
    (pair,) = paired.compare(correct, [""] * 8)
    # 6 for the first and 1 for the second: 2 * (1 + 7) / 2**7.
    assert pair.mcnemar == pytest.approx(0.125)
    assert pair.difference == pytest.approx(5 / 8)
    means_of_seeds = np.array([[0.5] * 8, [1.0] * 8])
    assert paired.compare(means_of_seeds, [""] * 8)[0].mcnemar is None


def test_images_without_a_person_are_resampled_one_by_one() -> None:
    correct = correct_of(400, 1, np.random.default_rng(0), gain=0.5)
    (pair,) = paired.compare(correct, [""] * 400)
    difference = correct[0] - correct[1]
    error = difference.std() / 20
    assert pair.interval is not None
    assert pair.p_value is not None
    assert pair.interval.low == pytest.approx(pair.difference - 1.966 * error, abs=0.005)
    assert pair.interval.high == pytest.approx(pair.difference + 1.966 * error, abs=0.005)
    by_t = scipy.stats.ttest_1samp(difference, 0).pvalue
    assert pair.p_value == pytest.approx(by_t, abs=0.005)
    one_by_one = [f"p{number}" for number in range(400)]
    named = paired.compare(correct, one_by_one)[0]
    assert named.interval is not None
    assert named.interval.low == pytest.approx(pair.interval.low, abs=0.005)


def test_many_images_of_few_people_say_less() -> None:
    correct = correct_of(10, 100, np.random.default_rng(0))
    of_people = paired.compare(correct, people_of(10, 100))[0].interval
    of_images = paired.compare(correct, [""] * 1000)[0].interval
    assert of_people is not None
    assert of_images is not None
    assert of_people.high - of_people.low > 1.5 * (of_images.high - of_images.low)


def test_too_few_people_have_no_interval() -> None:
    correct = correct_of(7, 50, np.random.default_rng(0))
    (pair,) = paired.compare(correct, people_of(7, 50))
    assert (pair.interval, pair.p_value, pair.adjusted) == (None, None, None)
    assert pair.mcnemar is not None


def test_equal_networks_do_not_differ() -> None:
    correct = correct_of(10, 5, np.random.default_rng(0))[[0, 0]]
    (pair,) = paired.compare(correct, people_of(10, 5))
    assert (pair.difference, pair.p_value, pair.mcnemar) == (0, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("people", "images"), [(8, 14), (10, 70), (25, 20), (100, 7)])
def test_equal_networks_are_rarely_told_apart(
    people: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "REPLICATES", 1000)
    rng, groups = np.random.default_rng(1), people_of(people, images)
    p_values = [
        paired.compare(correct_of(people, images, rng), groups, seed)[0].p_value
        for seed in range(400)
    ]
    rejected = np.mean(np.array(p_values, float) < 0.05)
    assert 0.005 <= rejected <= 0.075  # 0.05 plus twice its standard error
