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
from fer_jax.training.metrics import scalars

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
    occurring = options | {"labels": np.unique(truth)}  # unweighted means are over these
    for digits in (2, 3, 4):
        theirs = metrics.classification_report(
            **options, target_names=predictions.label_names, digits=digits
        )
        # If nothing is correct, scikit-learn prints the support as a float.
        whole_support = re.sub(r"(?m)(..)(\d+)\.0$", r"\1  \2", theirs)
        table = tables.classification_report(ours, digits)
        if len(occurring["labels"]) == classes:
            assert table == whole_support
        else:
            assert [one for one in table.splitlines() if "macro" not in one] == [
                one for one in whole_support.splitlines() if "macro" not in one
            ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about predicted classes without images
        balanced = metrics.balanced_accuracy_score(**pair)
        confusion = metrics.confusion_matrix(**pair, labels=range(classes))
    np.testing.assert_array_equal(ours.confusion, confusion)
    assert ours.confusion.dtype == np.int64
    assert ours.accuracy == pytest.approx(metrics.accuracy_score(**pair), abs=1e-12)
    assert ours.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
    for average, values in (("macro", ours.macro), ("weighted", ours.weighted)):
        theirs = metrics.precision_recall_fscore_support(**occurring, average=average)
        assert (values.precision, values.recall, values.f1) == pytest.approx(theirs[:3], abs=1e-12)
    assert ours.count == len(truth)
    assert ours.chance == 1 / len(occurring["labels"])
    assert float(scores.macro_f1(ours.confusion)) == pytest.approx(ours.macro.f1, abs=1e-12)
    in_training = scalars(ours.confusion, 0.0)
    for name, value in (
        ("accuracy", ours.accuracy),
        ("balanced_accuracy", ours.balanced_accuracy),
        ("macro_f1", ours.macro.f1),
    ):
        assert in_training[name] == pytest.approx(value, abs=1e-12)


def test_perfect_predictions_of_seven_of_eight_classes_are_perfect():
    everything = list(range(7)) * 2
    ours = scores.score(build(everything, everything, 8))
    assert (ours.macro.precision, ours.macro.recall, ours.macro.f1) == (1, 1, 1)
    assert (ours.balanced_accuracy, ours.chance, ours.occurring) == (1, 1 / 7, 7)
    table = tables.classification_report(ours)
    assert "macro avg       1.00      1.00      1.00        14" in table


# True and predicted classes, the number of groups, and the names of the warnings.
LEARNING = {
    "collapsed": ([0, 1, 2] * 40, [1] * 120, 10, ["COLLAPSE", "CHANCE"]),
    "collapsed, few people": ([0, 1, 2] * 40, [1] * 120, 5, ["COLLAPSE"]),
    "nearly collapsed": ([0, 1, 2] * 40, [0, *[1] * 119], 10, ["COLLAPSE", "CHANCE"]),
    "guessing": ([0, 1] * 60, [0, 0, 1, 1] * 30, 10, ["CHANCE"]),
    "worse than guessing": ([0, 1] * 60, [1, 0] * 59 + [0, 1], 10, ["CHANCE"]),
    "one frequent class, both found": ([0] * 118 + [1] * 2, [0] * 118 + [1] * 2, 60, []),
    "learned": ([0, 1, 2] * 40, [0, 1, 2] * 38 + [2, 0, 1] * 2, 10, []),
    "one class": ([1] * 120, [1] * 120, 10, []),
}


@pytest.mark.parametrize(("truth", "predicted", "people", "names"), LEARNING.values(), ids=LEARNING)
def test_a_network_that_has_not_learned_is_warned_of(truth, predicted, people, names):
    groups = [f"p{row * people // 120}" for row in range(120)]
    ours = scores.score(build(truth, predicted, 3, groups=groups))
    assert [warning.split(":")[0] for warning in ours.warnings] == names


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
