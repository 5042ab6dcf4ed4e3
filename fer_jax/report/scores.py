"""Scores of a report, computed from the integer confusion matrix.

Definitions follow scikit-learn with `zero_division=0`. The functions accept batches of confusion
matrices, for the bootstrap.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fer_jax.report.predictions import Predictions

CALIBRATION_BINS = 15  # Guo et al. 2017, "On calibration of modern neural networks"
CONFIDENCE_LEVEL = 0.95
RESAMPLES = 2000
_CHUNK = 250  # resamples at a time; bounds the memory of the clustered bootstrap


@dataclasses.dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 averaged over the classes."""

    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval; `method` describes what was resampled."""

    low: float
    high: float
    method: str


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
      macro: unweighted averages over the classes.
      weighted: averages weighted by support.
      reliability: calibration of the confidence.
      accuracy_interval: interval of the accuracy at `CONFIDENCE_LEVEL`.
      balanced_accuracy_interval: interval of the balanced accuracy.
      macro_f1_interval: interval of macro F1.
      votes: comparison with the votes of people; None if unknown.
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
    accuracy_interval: Interval
    balanced_accuracy_interval: Interval
    macro_f1_interval: Interval
    votes: VoteScores | None = None

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (ECE)."""
        return self.reliability.error

    @property
    def count(self) -> int:
        """Number of evaluated images."""
        return int(self.support.sum())


def score(predictions: Predictions, seed: int = 0) -> Scores:
    """Computes all scores; `seed` seeds the bootstrap."""
    confusion = predictions.confusion()
    precision, recall, f1 = per_class(confusion)
    support = confusion.sum(axis=1)
    intervals = _intervals(predictions, seed)
    return Scores(
        label_names=predictions.label_names,
        confusion=confusion,
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
        accuracy=float(accuracy(confusion)),
        balanced_accuracy=float(balanced_accuracy(confusion)),
        macro=Averages(*(float(values.mean()) for values in (precision, recall, f1))),
        weighted=Averages(
            *(float(np.average(values, weights=support)) for values in (precision, recall, f1))
        ),
        reliability=reliability(predictions.probabilities, predictions.labels),
        accuracy_interval=intervals[0],
        balanced_accuracy_interval=intervals[1],
        macro_f1_interval=intervals[2],
        votes=None if predictions.votes is None else vote_scores(predictions, predictions.votes),
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
    _, recall, _ = per_class(confusion)
    present = (confusion.sum(axis=-1) > 0).sum(axis=-1)
    return _ratio(recall.sum(axis=-1), present)


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


def resample(
    predictions: Predictions, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[np.ndarray, str]:
    """Draws bootstrap resamples of the confusion matrix.

    With at least two groups, whole groups are drawn (cluster bootstrap): predictions of one
    subject are correlated, and drawing single images would make the interval too narrow. An image
    without a group is its own group.

    Returns:
      int64[resamples, C, C], and a description of what was resampled.
    """
    rng = np.random.default_rng(seed)
    classes = len(predictions.label_names)
    groups = len(set(predictions.groups) - {""})
    if groups < 2:
        cells = predictions.confusion().ravel()
        # Drawing N images with replacement is one multinomial draw of the cell counts.
        drawn = rng.multinomial(len(predictions), cells / cells.sum(), size=resamples)
        method = f"bootstrap over {len(predictions)} images"
    else:
        drawn = _resample_clusters(_cluster_cells(predictions), rng, resamples)
        method = f"bootstrap over {groups} groups"
        ungrouped = predictions.groups.count("")
        method += f" and {ungrouped} images without a group" if ungrouped else ""
    return drawn.reshape(resamples, classes, classes), method


def _intervals(predictions: Predictions, seed: int) -> tuple[Interval, Interval, Interval]:
    drawn, method = resample(predictions, seed)
    tail = (1 - CONFIDENCE_LEVEL) / 2

    def interval(values: np.ndarray) -> Interval:
        low, high = np.quantile(values, (tail, 1 - tail))
        return Interval(float(low), float(high), method)

    macro_f1 = per_class(drawn)[2].mean(axis=-1)
    return interval(accuracy(drawn)), interval(balanced_accuracy(drawn)), interval(macro_f1)


def _cluster_cells(predictions: Predictions) -> np.ndarray:
    """Returns the flattened confusion matrix of each group, float64[clusters, C * C]."""
    names = [
        # The tuple separates an image without a group from a group named like its id.
        ("", record_id, position) if group == "" else (group, "", 0)
        for position, (record_id, group) in enumerate(
            zip(predictions.ids, predictions.groups, strict=True)
        )
    ]
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    index = np.array([order[name] for name in names])
    cells = len(predictions.label_names) ** 2
    cell = predictions.labels.astype(np.int64) * len(predictions.label_names)
    flat = index * cells + cell + predictions.predicted
    counts = np.bincount(flat, minlength=len(order) * cells)
    return counts.reshape(len(order), cells).astype(np.float64)


def _resample_clusters(cells: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Returns sums over clusters drawn with replacement, int64[resamples, cells]."""
    clusters = len(cells)
    uniform = np.full(clusters, 1 / clusters)
    sums = []
    for start in range(0, resamples, _CHUNK):
        draws = rng.multinomial(clusters, uniform, size=min(_CHUNK, resamples - start))
        # Integer products are exact in float64, whose matmul is much faster.
        sums.append(draws.astype(np.float64) @ cells)
    return np.rint(np.concatenate(sums)).astype(np.int64)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides in float64; 0 where the denominator is 0."""
    result = np.zeros(np.shape(denominator), np.float64)
    return np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
