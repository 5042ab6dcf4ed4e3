"""Action units from rendered faces, without a network: the floor that the head `units` must beat.

One logistic regression per unit on HOG features of the demo's face crops. Its regularization and
its threshold are those with the best F1 on validation people. Prints the macro F1 on test people,
beside the best constant answer ("shown" for every image). Needs scikit-learn.

    python -m benchmarks.action_units
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from benchmarks.baselines import SIDE, SPLITS, hog
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import decode_all, find_heads, open_split
from fer_jax.heads import UNITS, Heads
from fer_jax.report.head_answers import HeadAnswers
from fer_jax.report.head_scores import f1, score_heads
from tfds_builders import prepare

INVERSE_REGULARIZATION = (1e-4, 1e-3, 1e-2, 1e-1)
THRESHOLDS = np.linspace(0.05, 0.95, 19)


def counts(shown: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """True and false positives and false negatives, int[3], of bool[N]."""
    return np.array([(shown & seen).sum(), (~shown & seen).sum(), (shown & ~seen).sum()])


def answer(features: list[np.ndarray], labels: list[np.ndarray]) -> np.ndarray:
    """Returns 1 or 0 for each test image, float32[N]; arguments are of train, validation, test."""
    from sklearn.linear_model import LogisticRegression

    train, validation, test = features
    if len(np.unique(labels[0])) < 2:
        return np.full(len(test), labels[0][0], np.float32)

    def candidates() -> Iterator[tuple[float, np.ndarray]]:
        for strength in INVERSE_REGULARIZATION:
            model = LogisticRegression(C=strength, max_iter=300).fit(train, labels[0])
            shares, of_test = (model.predict_proba(one)[:, 1] for one in (validation, test))
            for threshold in THRESHOLDS:
                yield float(f1(counts(labels[1] > 0, shares >= threshold))), of_test >= threshold

    return max(candidates(), key=lambda one: one[0])[1].astype(np.float32)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data_dir", help="folder of prepared data sets")
    options = parser.parse_args()
    data = prepare.prepare("synthetic_faces", "demo", options.data_dir)
    preprocessing = Preprocessing(SIDE, "unit", face_margin=0.05)
    heads = find_heads(data, (UNITS,))
    splits = [decode_all(open_split(data, one, preprocessing, heads=heads)) for one in SPLITS]
    features = [hog(one.images) for one in splits]
    labels = [one.extras for one in splits if one.extras is not None]
    center, scale = features[0].mean(axis=0), features[0].std(axis=0) + 1e-6
    features = [(one - center) / scale for one in features]
    found = np.stack(
        [answer(features, [one[:, unit] for one in labels]) for unit in range(len(heads.units))], 1
    )
    answers = HeadAnswers(Heads(0, heads.units), found, labels[2])
    scores = score_heads(answers, splits[2].groups, "subject")
    assert scores is not None
    assert scores.macro_f1_interval is not None
    for one in scores.units:
        print(f"{one.name:<6} F1 {one.f1:.3f}, always {one.always:.3f}, shown {one.shown}")
    between = f"{scores.macro_f1_interval.low:.4f}, {scores.macro_f1_interval.high:.4f}"
    print(f"macro F1 {scores.macro_f1:.4f} [{between}], always {scores.macro_always:.4f}")


if __name__ == "__main__":
    main()
