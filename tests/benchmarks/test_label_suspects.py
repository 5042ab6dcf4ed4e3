"""FER2013's suspected labels are judged by FER+'s votes."""

from __future__ import annotations

import numpy as np

from benchmarks import label_suspects
from fer_jax import labels
from fer_jax.experiments.suspects import HeldOut
from fer_jax.report.predictions import Predictions
from tfds_builders.ferplus import votes as ferplus

IDS = tuple(f"Training_{row:05d}" for row in range(200))


def votes(**counts: int) -> np.ndarray:
    return np.array([counts.get(choice, 0) for choice in ferplus.CHOICES])


def test_wrong_labels_are_those_that_people_outvote():
    names = labels.FER2013
    given = np.full(200, names.index("fear"), np.int32)
    probabilities = np.full((200, len(names)), 0.05, np.float32)
    probabilities[:, names.index("fear")] = np.linspace(0.01, 0.69, 200)
    probabilities[:, names.index("surprise")] = 0.75 - np.linspace(0.01, 0.69, 200)
    table = {name: votes(fear=10) for name in IDS[50:]}
    table |= {name: votes(fear=1, surprise=9) for name in IDS[:40]}
    table |= {name: votes(fear=5, surprise=5) for name in IDS[40:45]}  # a tie supports the label
    table |= {name: votes(surprise=10) for name in IDS[45:49]}  # and one is not judged
    found = HeldOut(
        "folds", Predictions(IDS, given, probabilities, ("",) * 200, names), ("fold 1",) * 200,
        np.zeros((200, 4, 4, 3), np.uint8), "", (), None, None,
    )  # fmt: skip
    judged = label_suspects.judge(found, found.find_errors(), table, "Training")
    assert len(judged.is_wrong) == 199
    assert np.flatnonzero(judged.is_wrong).tolist() == [*range(40), *range(45, 49)]
    assert judged.is_unsupported.sum() == 4
    assert judged.rankings["margin"].tolist() == list(range(199))
    (line, *_) = label_suspects.describe(judged)
    assert "| Training | 199 | wrong | margin | 0.221 | 0.440 | 0.221 |" in line
