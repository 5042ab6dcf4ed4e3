"""Scores of a report, computed from the integer confusion matrix.

Definitions follow scikit-learn with `zero_division=0`; unweighted means are over the classes that
occur, as in training. The functions accept batches of confusion matrices, for `intervals`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fer_jax.report.head_scores import HeadScores, score_heads
from fer_jax.report.intervals import CONFIDENCE_LEVEL, Groups, Interval
from fer_jax.report.predictions import Predictions

CALIBRATION_BINS = 15  # Guo et al. 2017, "On calibration of modern neural networks"
COVERAGE_POINTS = 100
_COLLAPSED = 0.95  # share of the predictions in one class


@dataclasses.dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 averaged over classes."""

    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """Accuracy and confidence in B bins of equal width (Guo et al. 2017).

    Attributes:
      count: int64[B], number of images whose confidence (top probability) is in the bin.
      confidence: float64[B], their mean confidence; 0 for an empty bin.
      accuracy: float64[B], their accuracy; 0 for an empty bin.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: |accuracy - confidence|, weighted by the counts."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((gaps * self.count).sum() / self.count.sum())


@dataclasses.dataclass(frozen=True, eq=False)
class Coverage:
    """Accuracy of the most confident images alone, at K shares of them (selective prediction).

    Attributes:
      share: float64[K], coverage: the share of the images, from the smallest to 1.
      confidence: float64[K], the lowest top probability among them.
      accuracy: float64[K], their accuracy.
    """

    share: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


@dataclasses.dataclass(frozen=True)
class Abstention:
    """Scores of a network that answers only where its top probability reaches a threshold.

    Attributes:
      threshold: the lowest top probability of an answer.
      answered: number of images with an answer.
      coverage: their share.
      accuracy: their accuracy; None without an answer.
      accuracy_interval: its interval at `CONFIDENCE_LEVEL`; None with too few groups.
    """

    threshold: float
    answered: int
    coverage: float
    accuracy: float | None
    accuracy_interval: Interval | None


@dataclasses.dataclass(frozen=True)
class VoteScores:
    """Predictions compared with the votes of people, means over the images.

    Attributes:
      divergence: Kullback-Leibler divergence of the probabilities from the votes, nats.
      agreement: share of the votes for the predicted class.
      ceiling: share of the votes for the majority, the highest possible agreement.
    """

    divergence: float
    agreement: float
    ceiling: float


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """All scores of a report over C classes.

    Attributes:
      label_names: C class names.
      confusion: int64[C, C], rows true, columns predicted.
      precision: float64[C]; 0 for a class that was never predicted.
      recall: float64[C]; 0 for a class without images.
      f1: float64[C].
      support: int64[C], number of images of each class.
      accuracy: fraction of correct predictions.
      balanced_accuracy: mean recall of the classes with images (unweighted average recall, UAR).
      macro: unweighted averages over the classes with images.
      weighted: averages weighted by support.
      reliability: calibration of the confidence.
      coverage: accuracy of the most confident images.
      accuracy_interval: interval of the accuracy at `CONFIDENCE_LEVEL`; None with too few groups.
      balanced_accuracy_interval: interval of the balanced accuracy, or None.
      macro_f1_interval: interval of macro F1, or None.
      interval_method: what the intervals are over, or why there are none.
      votes: comparison with the votes of people; None if unknown.
      uncalibrated_error: expected calibration error at temperature 1; None if that is what was
        evaluated.
      abstention: scores of the answers alone; None if the network always answers.
      heads: scores of further heads; None if there are none, or no labels for them.
    """

    label_names: tuple[str, ...]
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    accuracy: float
    balanced_accuracy: float
    macro: Averages
    weighted: Averages
    reliability: Reliability
    coverage: Coverage
    accuracy_interval: Interval | None
    balanced_accuracy_interval: Interval | None
    macro_f1_interval: Interval | None
    interval_method: str
    votes: VoteScores | None = None
    uncalibrated_error: float | None = None
    abstention: Abstention | None = None
    heads: HeadScores | None = None

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (ECE)."""
        return self.reliability.error

    @property
    def count(self) -> int:
        """Number of evaluated images."""
        return int(self.support.sum())

    @property
    def occurring(self) -> int:
        """Number of classes with images; unweighted means are over these."""
        return int(np.count_nonzero(self.support))

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing: 1 / number of classes with images."""
        return 1 / self.occurring

    @property
    def interval_note(self) -> str:
        """Level and method of the intervals, or why there are none."""
        level = "" if self.accuracy_interval is None else f"{CONFIDENCE_LEVEL:.0%} "
        return level + self.interval_method

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about a network that has not learned, for the top of every report."""
        if self.occurring < 2:
            return ()
        lines = []
        predicted = self.confusion.sum(axis=0) / self.count
        top = int(predicted.argmax())
        if predicted[top] >= _COLLAPSED > self.support[top] / self.count:
            lines.append(
                f"COLLAPSE: {predicted[top]:.1%} of the images are predicted as "
                f"{self.label_names[top]}"
            )
        interval = self.balanced_accuracy_interval
        # A constant prediction has an interval of no width at chance, up to rounding.
        if interval is not None and interval.low <= self.chance + 1e-9:
            lines.append(
                f"CHANCE: the {CONFIDENCE_LEVEL:.0%} interval of balanced accuracy, "
                f"{interval.low:.4f} to {interval.high:.4f}, is not above chance "
                f"({self.chance:.4f})"
            )
        return tuple(lines)


def score(predictions: Predictions, temperature: float = 1.0, abstain: float = 0.0) -> Scores:
    """Computes all scores and their intervals.

    Args:
      predictions: predictions of N images.
      temperature: that their logits were divided by.
      abstain: the lowest top probability of an answer; 0 always answers.
    """
    confusion = predictions.confusion()
    precision, recall, f1 = per_class(confusion)
    support = confusion.sum(axis=1)
    occurs, groups = support > 0, Groups.of(predictions)
    return Scores(
        label_names=predictions.label_names,
        confusion=confusion,
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
        accuracy=float(accuracy(confusion)),
        balanced_accuracy=float(balanced_accuracy(confusion)),
        macro=Averages(*(float(values[occurs].mean()) for values in (precision, recall, f1))),
        weighted=Averages(
            *(float(np.average(values, weights=support)) for values in (precision, recall, f1))
        ),
        reliability=reliability(predictions.probabilities, predictions.labels),
        coverage=coverage_curve(predictions),
        accuracy_interval=groups.interval(accuracy),
        balanced_accuracy_interval=groups.interval(balanced_accuracy),
        macro_f1_interval=groups.interval(macro_f1),
        interval_method=groups.method,
        votes=None if predictions.votes is None else vote_scores(predictions, predictions.votes),
        uncalibrated_error=_uncalibrated_error(predictions, temperature),
        abstention=abstention(predictions, abstain) if abstain else None,
        heads=None
        if predictions.heads is None
        else score_heads(predictions.heads, predictions.groups, predictions.unit),
    )


def coverage_curve(predictions: Predictions) -> Coverage:
    """Returns the accuracy of the most confident images at up to `COVERAGE_POINTS` shares.

    Images of equal confidence are answered together.
    """
    confidence = predictions.probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum((predictions.predicted == predictions.labels)[order])
    count = len(order)
    wanted = np.ceil(np.linspace(0, count, COVERAGE_POINTS + 1)[1:]).astype(int) - 1
    values = confidence[order]
    # The last of those with the same confidence.
    last = np.unique(np.searchsorted(-values, -values[wanted], side="right") - 1)
    return Coverage((last + 1) / count, values[last], hits[last] / (last + 1))


def abstention(predictions: Predictions, threshold: float) -> Abstention:
    """Scores the images whose top probability reaches `threshold`."""
    rows = np.flatnonzero(predictions.probabilities.max(axis=1) >= threshold)
    if not rows.size:
        return Abstention(threshold, 0, 0.0, None, None)
    answered = predictions.take(rows)
    return Abstention(
        threshold=threshold,
        answered=len(rows),
        coverage=len(rows) / len(predictions),
        accuracy=float(accuracy(answered.confusion())),
        accuracy_interval=Groups.of(answered).interval(accuracy),
    )


def vote_scores(predictions: Predictions, votes: np.ndarray) -> VoteScores:
    """Compares predictions with the share of the votes for each class, float[N, C]."""
    shares = votes.astype(np.float64)
    # A probability that underflowed to 0 would make the divergence infinite.
    floor = np.finfo(np.float32).tiny
    probabilities = np.maximum(predictions.probabilities.astype(np.float64), floor)
    terms = shares * np.log(np.where(shares > 0, shares, 1) / probabilities)
    return VoteScores(
        divergence=float(terms.sum(axis=1).mean()),
        agreement=float(shares[np.arange(len(shares)), predictions.predicted].mean()),
        ceiling=float(shares.max(axis=1).mean()),
    )


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the probabilities, float64[N, C], of logits divided by a temperature."""
    with np.errstate(divide="ignore"):  # log(0) = -inf remains a probability of 0
        logits = np.log(probabilities.astype(np.float64)) / temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _uncalibrated_error(predictions: Predictions, temperature: float) -> float | None:
    if temperature == 1:
        return None
    before = with_temperature(predictions.probabilities, 1 / temperature)
    return reliability(before, predictions.labels).error


def per_class(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns precision, recall and F1, float64[..., C] each, of int64[..., C, C] counts."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, support = confusion.sum(axis=-2), confusion.sum(axis=-1)
    return (
        _ratio(hits, predicted),
        _ratio(hits, support),
        _ratio(2 * hits, predicted + support),
    )


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Returns the accuracy, float64[...], of int64[..., C, C] counts."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Returns the mean recall of the classes with images (UAR), float64[...]."""
    return _mean_over_occurring(per_class(confusion)[1], confusion)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Returns the mean F1 of the classes with images, float64[...]."""
    return _mean_over_occurring(per_class(confusion)[2], confusion)


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS
) -> Reliability:
    """Bins images by confidence and compares it with the accuracy (Guo et al. 2017).

    The bins have equal width; each includes its upper edge and excludes its lower one.

    Args:
      probabilities: float[N, C].
      labels: int[N].
      bins: number of bins.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    index = np.searchsorted(inner_edges, confidence, side="left")
    count = np.bincount(index, minlength=bins)
    sums = (np.bincount(index, weights=values, minlength=bins) for values in (confidence, correct))
    return Reliability(count, *(_ratio(total, count) for total in sums))


def _mean_over_occurring(values: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Returns the mean of recall or F1, float64[..., C], over the classes with images."""
    # Both are 0 for the other classes.
    return _ratio(values.sum(axis=-1), (confusion.sum(axis=-1) > 0).sum(axis=-1))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides in float64; 0 where the denominator is 0."""
    result = np.zeros(np.shape(denominator), np.float64)
    return np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
