"""Scores compared with scikit-learn and with explicit loops."""

from __future__ import annotations

import dataclasses
import itertools
import re
import warnings

import numpy as np
import pytest
from sklearn import metrics

from fer_jax.errors import UserError
from fer_jax.report import scores, tables
from fer_jax.report.predictions import Predictions

NAMES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


def build(labels, predicted, classes, *, groups=None, probabilities=None):
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if probabilities is None:
        probabilities = np.eye(classes)[predicted]
    return Predictions(
        ids=tuple(f"s{i}" for i in range(len(labels))),
        labels=labels,
        probabilities=probabilities,
        groups=groups if groups is not None else ("",) * len(labels),
        label_names=NAMES[:classes],
    )


def draw(seed, classes=7, count=211, subjects=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=rng.dirichlet(np.ones(classes)))
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    groups = tuple(f"p{i * subjects // count}" for i in range(count)) if subjects else None
    return build(labels, None, classes, groups=groups, probabilities=probabilities)


CASES = {
    **{f"random {seed}": draw(seed, classes=2 + seed % 7) for seed in range(12)},
    "class without images": build([0, 0, 2, 2], [0, 1, 2, 1], 3),
    "class never predicted": build([0, 1, 2, 2], [0, 0, 2, 2], 3),
    "class neither true nor predicted": build([0, 0, 2], [0, 2, 2], 4),
    "one class": build([0, 0], [0, 0], 1),
    "one image, wrong": build([0], [1], 2),
    "nothing correct": build([0, 1, 2], [1, 2, 0], 3),
    "large": draw(99, classes=8, count=20_000),
}


@pytest.mark.parametrize("seed", range(3))
def test_votes_are_compared_as_by_hand(seed):
    plain = draw(seed)
    cast = np.random.default_rng(seed).multinomial(10, np.full(7, 1 / 7), len(plain))
    probabilities = plain.probabilities.copy()
    probabilities[0] = np.eye(7)[cast[0].argmin()]  # 0 for most votes, and yet finite
    predictions = dataclasses.replace(plain, probabilities=probabilities, votes=cast / 10)
    found, votes = scores.score(predictions).votes, cast / 10
    pairs = list(zip(votes, np.maximum(probabilities, 2.0**-126).astype(float), strict=True))
    expected = [sum(v * np.log(v / p) for v, p in zip(*pair, strict=True) if v) for pair in pairs]
    assert found.divergence == pytest.approx(np.mean(expected), rel=1e-6)
    chosen = [one[row.argmax()] for one, row in pairs]
    assert found.agreement == pytest.approx(np.mean(chosen))
    assert found.ceiling == pytest.approx(np.mean([one.max() for one, _ in pairs]))
    assert found.agreement <= found.ceiling
    assert scores.score(plain).votes is None


def test_votes_for_other_classes_are_refused():
    with pytest.raises(UserError, match=r"votes of shape \(211, 7\), found \(211, 8\)"):
        dataclasses.replace(draw(0), votes=np.full((211, 8), 1 / 8))


@pytest.mark.parametrize("predictions", CASES.values(), ids=CASES.keys())
def test_scikit_learn_agrees(predictions):
    ours, classes = scores.score(predictions), len(predictions.label_names)
    truth, predicted = predictions.labels, predictions.predicted
    pair = {"y_true": truth, "y_pred": predicted}
    options = pair | {"labels": range(classes), "zero_division": 0}
    for digits in (2, 3, 4):
        theirs = metrics.classification_report(
            **options, target_names=predictions.label_names, digits=digits
        )
        # If nothing is correct, scikit-learn prints the support as a float.
        whole_support = re.sub(r"(?m)(..)(\d+)\.0$", r"\1  \2", theirs)
        assert tables.classification_report(ours, digits) == whole_support
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about predicted classes without images
        balanced = metrics.balanced_accuracy_score(**pair)
        confusion = metrics.confusion_matrix(**pair, labels=range(classes))
    np.testing.assert_array_equal(ours.confusion, confusion)
    assert ours.confusion.dtype == np.int64
    assert ours.accuracy == pytest.approx(metrics.accuracy_score(**pair), abs=1e-12)
    assert ours.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
    for average, values in (("macro", ours.macro), ("weighted", ours.weighted)):
        theirs = metrics.precision_recall_fscore_support(**options, average=average)
        assert (values.precision, values.recall, values.f1) == pytest.approx(theirs[:3], abs=1e-12)
    assert ours.count == len(truth)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_a_loop_over_bins(bins):
    rng = np.random.default_rng(bins)
    probabilities = rng.dirichlet(np.ones(4), 500)
    probabilities[:60] = [0.4, 0.2, 0.2, 0.2]  # exactly on an edge of 10 and of 15 bins
    probabilities[60:80] = [1, 0, 0, 0]
    labels = rng.integers(0, 4, 500)
    # Underconfident up to 0.4, overconfident above: otherwise the edges would not matter.
    underconfident = probabilities.max(axis=1) <= 0.4
    labels[underconfident] = probabilities.argmax(axis=1)[underconfident]
    confidence, total = probabilities.max(axis=1), 0.0
    edges = np.linspace(0, 1, bins + 1)
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            accuracy = (probabilities[inside].argmax(axis=1) == labels[inside]).mean()
            total += inside.mean() * abs(accuracy - confidence[inside].mean())
    assert scores.reliability(probabilities, labels, bins).error == pytest.approx(total, abs=1e-12)


def test_a_calibrated_and_an_overconfident_model():
    labels = np.array([0] * 8 + [1] * 2)
    for confidence, expected in ((0.8, 0.0), (1.0, 0.2)):
        probabilities = np.tile([confidence, 1 - confidence], (10, 1))
        assert scores.reliability(probabilities, labels).error == pytest.approx(expected)


@pytest.mark.parametrize("subjects", [0, 12])
def test_bootstrap_equals_a_loop_over_resamples(subjects):
    predictions = draw(3, subjects=subjects)
    rng = np.random.default_rng(5)
    groups = np.array(predictions.groups if subjects else predictions.ids)
    members = [np.flatnonzero(groups == group) for group in dict.fromkeys(groups)]
    correct = predictions.labels == predictions.predicted
    looped = []
    for _ in range(4000):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        looped.append(correct[rows].mean())
    drawn, _ = scores.resample(predictions, seed=1, resamples=4000)
    ours = scores.accuracy(drawn)
    assert ours.std() == pytest.approx(np.std(looped), rel=0.05)
    np.testing.assert_allclose(
        np.quantile(ours, (0.025, 0.5, 0.975)), np.quantile(looped, (0.025, 0.5, 0.975)), atol=0.008
    )


def test_a_resample_draws_whole_groups():
    # Subject a: two images, both correct; subject b: three images, all wrong.
    predictions = build([0, 0, 1, 1, 1], [0, 0, 0, 0, 0], 2, groups=("a", "a", "b", "b", "b"))
    drawn, method = scores.resample(predictions, resamples=300)
    assert {tuple(matrix.ravel()) for matrix in drawn} == {
        (4, 0, 0, 0), (2, 0, 3, 0), (0, 0, 6, 0),
    }  # fmt: skip
    assert method == "bootstrap over 2 groups"


def test_images_without_a_group_are_drawn_one_by_one():
    predictions = build([0, 1, 0, 1], [0, 1, 1, 1], 2, groups=("a", "b", "", ""))
    drawn, _ = scores.resample(predictions, resamples=100)
    assert set(drawn.sum(axis=(1, 2))) == {4}


@pytest.mark.parametrize(
    ("groups", "method"),
    [
        (("", "", "", ""), "bootstrap over 4 images"),
        (("a", "a", "a", "a"), "bootstrap over 4 images"),
        (("a", "a", "b", ""), "bootstrap over 2 groups and 1 images without a group"),
    ],
)
def test_the_method_describes_what_was_resampled(groups, method):
    predictions = build([0, 1, 0, 1], [0, 1, 1, 1], 2, groups=groups)
    drawn, description = scores.resample(predictions, resamples=50)
    assert description == method
    assert drawn.shape == (50, 2, 2)
    assert (drawn.sum(axis=(1, 2)) > 0).all()
    assert scores.score(predictions).accuracy_interval.method == method


def test_the_interval_depends_only_on_the_seed():
    predictions = draw(1, subjects=9)
    first, again, other = (scores.score(predictions, seed=seed) for seed in (4, 4, 5))
    assert first.accuracy_interval == again.accuracy_interval
    assert first.accuracy_interval != other.accuracy_interval
    assert first.accuracy_interval.low < first.accuracy < first.accuracy_interval.high


def test_the_clustered_interval_covers_and_the_plain_one_does_not():
    """Forty subjects with different accuracies; the true mean is 0.7."""
    rng, covered = np.random.default_rng(0), {"groups": 0, "images": 0}
    for trial in range(100):
        rates = rng.beta(1.4, 0.6, 40)
        hits = rng.random((40, 12)) < rates[:, None]
        for name in covered:
            groups = tuple(f"p{i // 12}" for i in range(480)) if name == "groups" else None
            predictions = build(np.zeros(480, int), 1 - hits.ravel().astype(int), 2, groups=groups)
            drawn, _ = scores.resample(predictions, seed=trial, resamples=400)
            low, high = np.quantile(scores.accuracy(drawn), (0.025, 0.975))
            covered[name] += low <= 0.7 <= high
    assert covered["groups"] >= 88
    assert covered["images"] <= 75
