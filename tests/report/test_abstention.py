"""Coverage and accuracy of a network that answers only where it is confident."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fer_jax.report import plots, scores, tables, write
from fer_jax.report.predictions import Predictions
from tests.report.test_tables import CARD

TOPS = [0.9, 0.8, 0.8, 0.6, 0.55, 0.5]
LABELS = [0, 0, 1, 0, 1, 0]  # class 0 is always predicted


def make(tops=TOPS, labels=LABELS) -> Predictions:
    probabilities = np.array([[top, 1 - top] for top in tops], np.float32)
    names = tuple(f"id{row}" for row in range(len(tops)))
    return Predictions(names, np.array(labels), probabilities, ("",) * len(tops), ("fear", "anger"))


def test_the_curve_answers_the_most_confident_first_and_ties_together():
    curve = scores.coverage_curve(make())
    np.testing.assert_allclose(curve.share, np.array([1, 3, 4, 5, 6]) / 6)
    np.testing.assert_allclose(curve.confidence, [0.9, 0.8, 0.6, 0.55, 0.5], rtol=1e-6)
    np.testing.assert_allclose(curve.accuracy, [1, 2 / 3, 3 / 4, 3 / 5, 4 / 6])


def test_the_curve_of_many_images_has_a_hundred_points_and_ends_at_the_accuracy():
    rng = np.random.default_rng(0)
    found = make(rng.uniform(0.5, 1, 5000), rng.integers(0, 2, 5000))
    curve = scores.coverage_curve(found)
    np.testing.assert_allclose(curve.share, np.arange(1, 101) / 100)
    assert curve.accuracy[-1] == pytest.approx(scores.score(found).accuracy)


@pytest.mark.parametrize(
    ("threshold", "answered", "accuracy"),
    [(0.4, 6, 4 / 6), (0.6, 4, 3 / 4), (0.85, 1, 1.0), (0.95, 0, None)],
)
def test_scores_of_the_answers(threshold, answered, accuracy):
    # float32(0.6) is above 0.6.
    one = scores.score(make(), abstain=threshold).abstention
    assert (one.answered, one.coverage) == (answered, answered / 6)
    assert one.accuracy == (None if accuracy is None else pytest.approx(accuracy))


def test_the_reports_have_the_curve_and_the_answers(tmp_path):
    found = make(TOPS * 10, LABELS * 10)
    images = np.zeros((60, 16, 16, 3), np.uint8)
    card = dataclasses.replace(CARD, abstain=0.6, temperature=1.3)
    paths = write.write_report(tmp_path / "report", found, images, card, samples=0)
    stored = json.loads(paths.json.read_text())
    assert stored["abstention"]["answered"] == 40
    low, high = stored["abstention"]["accuracy_interval"]
    assert low < 0.75 < high
    assert stored["coverage"]["accuracy"][-1] == pytest.approx(4 / 6)
    text = " ".join(paths.text.read_text().split())
    assert "abstains below a top probability of 0.6 (calibrated)" in text
    assert "coverage 0.6667, 40 of 60 images their accuracy 0.7500 [" in text
    page = paths.page.read_text()
    assert "<h2>Coverage</h2>" in page
    assert "from 0.6: 75.0% of 66.7%" in page
    plain = write.write_report(tmp_path / "report", found, images, CARD, samples=0)
    assert json.loads(plain.json.read_text())["abstention"] is None
    assert "abstains" not in plain.text.read_text()


def test_without_calibration_the_report_says_so():
    card = dataclasses.replace(CARD, abstain=0.95)
    rows = dict(tables.abstention_rows(scores.score(make(), abstain=0.95), card))
    assert rows == {
        "abstains": "below a top probability of 0.95 (not calibrated)",
        "coverage": "0.0000, 0 of 6 images",
        "their accuracy": "no image",
    }
    assert plots.coverage(scores.score(make(), abstain=0.95)).shape[2] == 3
