"""Confident learning: which labels are probably wrong, and which classes are confused.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70. A network that has not seen an image contradicts its label; how confident it has to be is
learned per class, from its mean probability for the images with that label. The package cleanlab
does the same and would bring pandas and scikit-learn; `benchmarks/label_suspects.py` compares.
"""

from __future__ import annotations

import dataclasses

import numpy as np

_TOLERANCE = 1e-6  # of a probability at its threshold, as in cleanlab


@dataclasses.dataclass(frozen=True, eq=False)
class LabelErrors:
    """Estimates for N images of C classes.

    Attributes:
      joint: float64[C, C], estimated number of images with a given label (row) and a true class
        (column). The rows sum to the number of images with each label.
      is_suspect: bool[N], the images whose label is probably wrong.
      margin: float64[N], the probability of the given label minus that of the most probable other
        class; the lowest is the most suspicious.
      suggested: int64[N], the most probable class.
    """

    joint: np.ndarray
    is_suspect: np.ndarray
    margin: np.ndarray
    suggested: np.ndarray

    @property
    def ranked(self) -> np.ndarray:
        """int64[M], the suspects, the most suspicious first."""
        order = np.argsort(self.margin, kind="stable")
        return order[self.is_suspect[order]]

    @property
    def wrong(self) -> np.ndarray:
        """float64[C], the estimated number of wrong labels among those of each class."""
        return np.asarray(self.joint.sum(axis=1) - np.diagonal(self.joint))


def find_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> LabelErrors:
    """Estimates which labels are wrong.

    Args:
      labels: int[N], the given labels.
      probabilities: float[N, C], of a network that did not learn from the images.
    """
    probabilities = probabilities.astype(np.float64)
    joint = estimate_joint(labels, probabilities)
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    suspects = _prune(labels, probabilities, np.rint(joint).astype(np.int64))
    suggested = probabilities.argmax(axis=1)
    return LabelErrors(
        joint=joint,
        is_suspect=suspects & (suggested != labels),
        margin=given - others.max(axis=1),
        suggested=suggested,
    )


def estimate_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns `LabelErrors.joint`: the calibrated confident joint (section 3.1 of the article).

    An image counts for a class whose probability reaches the mean over the images with that label;
    for the most probable class if several do.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.zeros((classes, classes))
    np.add.at(sums, labels, probabilities)
    # A class without images is no image's true class.
    thresholds = np.where(counts > 0, np.diagonal(sums) / np.maximum(counts, 1), np.inf)
    confident = probabilities >= thresholds - _TOLERANCE
    number = confident.sum(axis=1)
    true = np.where(number > 1, probabilities.argmax(axis=1), confident.argmax(axis=1))
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[number > 0], true[number > 0]), 1)
    np.fill_diagonal(joint, np.maximum(np.diagonal(joint), 1))
    return np.asarray(joint / joint.sum(axis=1, keepdims=True) * counts[:, None])


def _prune(labels: np.ndarray, probabilities: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Returns bool[N]: of each cell off the diagonal, as many images as it counts.

    Those with the largest margin of the true class over the given one ("prune by noise rate").
    """
    suspects = np.zeros(len(labels), bool)
    for given, true in np.argwhere(joint):
        if given != true:
            rows = np.flatnonzero(labels == given)
            margin = probabilities[rows, true] - probabilities[rows, given]
            suspects[rows[np.argsort(-margin, kind="stable")[: joint[given, true]]]] = True
    return suspects
