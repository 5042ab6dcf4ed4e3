"""Scores of action units, valence and arousal, and their place in the reports."""

from __future__ import annotations

import csv
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.experiments.ensemble import mean_predictions
from fer_jax.heads import Heads
from fer_jax.report import write
from fer_jax.report.card import ReportCard
from fer_jax.report.head_answers import HeadAnswers
from fer_jax.report.head_scores import score_heads
from fer_jax.report.predictions import Predictions

HEADS = Heads(2, ("AU01", "AU02"), affect=True)
IMAGES, PEOPLE = 60, 12


def drawn(seed: int = 0) -> HeadAnswers:
    """Answers with an error, and some unknown labels."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate(
        [draw.integers(0, 2, (IMAGES, 2)), draw.uniform(-1, 1, (IMAGES, 2))], axis=1
    ).astype(np.float32)
    noise = draw.normal(0, [0.4, 0.4, 0.2, 0.2], labels.shape)
    answers = np.clip(labels + noise, [0, 0, -1, -1], 1).astype(np.float32)
    labels[draw.uniform(size=labels.shape) < 0.2] = np.nan
    return HeadAnswers(HEADS, answers, labels)


GROUPS = tuple(f"p{row % PEOPLE}" for row in range(IMAGES))


@pytest.mark.parametrize("groups", [GROUPS, ("",) * IMAGES, (*GROUPS[:30], *("",) * 30)])
def test_scores_are_those_of_the_known_labels(groups):
    from sklearn import metrics

    found = drawn()
    scores = score_heads(found, groups, "subject")
    for unit, one in enumerate(scores.units):
        rows = ~np.isnan(found.labels[:, unit])
        true, seen = found.labels[rows, unit] > 0, found.answers[rows, unit] >= 0.5
        assert one.f1 == pytest.approx(metrics.f1_score(true, seen))
        assert one.precision == pytest.approx(metrics.precision_score(true, seen))
        assert one.always == pytest.approx(metrics.f1_score(true, np.ones_like(true)))
        assert (one.count, one.shown) == (rows.sum(), true.sum())
        assert one.interval.low < one.f1 < one.interval.high
    assert scores.macro_f1 == pytest.approx(np.mean([one.f1 for one in scores.units]))
    assert scores.macro_f1_interval.low < scores.macro_f1 < scores.macro_f1_interval.high
    for column, one in enumerate(scores.dimensions, start=2):
        rows = ~np.isnan(found.labels[:, column])
        x, y = (a[rows, column].astype(float) for a in (found.answers, found.labels))
        spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
        assert one.ccc == pytest.approx(2 * np.cov(x, y, bias=True)[0, 1] / spread, rel=1e-5)
        assert one.rmse == pytest.approx(np.sqrt(((x - y) ** 2).mean()))
        assert -1 < one.interval.low < one.ccc < one.interval.high < 1


def test_intervals_are_over_people_not_images():
    found = drawn()
    repeated = HeadAnswers(HEADS, np.repeat(found.answers, 9, 0), np.repeat(found.labels, 9, 0))
    ids = tuple(f"p{row}" for row in range(IMAGES) for _ in range(9))
    once = score_heads(found, tuple(f"p{row}" for row in range(IMAGES)), "subject")
    again = score_heads(repeated, ids, "subject")
    for name in ("macro_f1_interval", "ccc_interval"):
        first, second = getattr(once, name), getattr(again, name)
        assert (second.low, second.high) == pytest.approx((first.low, first.high), rel=1e-6)
    few = score_heads(found, tuple(f"p{row % 3}" for row in range(IMAGES)), "subject")
    assert few.macro_f1_interval is None
    assert "8 people are needed" in few.method


def test_a_head_without_labels_has_no_scores():
    found = drawn()
    labels = found.labels.copy()
    labels[:, 2:] = np.nan
    scores = score_heads(dataclasses.replace(found, labels=labels), GROUPS, "subject")
    assert scores.units
    assert not scores.dimensions
    assert scores.ccc is None
    assert list(scores.to_json()) == ["units", "method"]
    labels[:] = np.nan
    assert score_heads(dataclasses.replace(found, labels=labels), GROUPS, "subject") is None
    with pytest.raises(UserError, match="labels of 4 outputs"):
        HeadAnswers(HEADS, found.answers, labels[:, :3])


def test_every_form_of_the_report_has_them(tmp_path):
    probabilities = np.tile(np.float32([0.7, 0.3]), (IMAGES, 1))
    ids = tuple(f"r{row}" for row in range(IMAGES))
    plain = Predictions(ids, np.arange(IMAGES) % 2, probabilities, GROUPS, ("a", "b"))
    card = ReportCard("run", "set", "", "subject", "test", "net", 1, 0, 1, 1.0)
    images = np.zeros((IMAGES, 8, 8, 3), np.uint8)
    headed = dataclasses.replace(plain, heads=drawn())
    paths = write.write_report(tmp_path, headed, images, card, samples=0)
    scores = paths.scores.heads
    stored = json.loads(paths.json.read_text())["heads"]
    assert stored["units"]["macro_f1"] == scores.macro_f1
    assert stored["units"]["each"]["AU02"]["shown"] == scores.units[1].shown
    assert stored["valence_arousal"]["ccc_interval"][0] == scores.ccc_interval.low
    for path in (paths.text, paths.markdown):
        assert f"{scores.macro_f1:.4f} [{scores.macro_f1_interval.low:.4f}" in path.read_text()
        assert f"{scores.dimensions[1].ccc:.4f} [" in path.read_text()
    page = paths.page.read_text()
    assert "Action units" in page
    assert f"mean of both {scores.ccc:.3f}" in page
    with open(tmp_path / "heads.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(ids)
    labels = [float(row["label_valence"] or "nan") for row in rows]
    np.testing.assert_array_equal(np.float32(labels), drawn().labels[:, 2])
    again = write.write_report(tmp_path, plain, images, card, samples=0)
    assert "heads" not in json.loads(again.json.read_text())
    assert not (tmp_path / "heads.csv").exists()
    assert "Action units" not in again.page.read_text()


def test_an_ensemble_has_the_mean_of_heads_that_all_members_have():
    probabilities = np.tile(np.float32([0.7, 0.3]), (IMAGES, 1))
    ids, labels = tuple(f"r{row}" for row in range(IMAGES)), np.arange(IMAGES) % 2
    plain = Predictions(ids, labels, probabilities, GROUPS, ("a", "b"))
    first, second = drawn(0), dataclasses.replace(drawn(0), answers=drawn(1).answers)

    def mean_of(*heads):
        members = [SimpleNamespace(predictions=dataclasses.replace(plain, heads=one))
                   for one in heads]  # fmt: skip
        return mean_predictions(members).heads

    found = mean_of(first, second)
    np.testing.assert_allclose(found.answers, (first.answers + second.answers) / 2, atol=1e-6)
    np.testing.assert_array_equal(found.labels, first.labels)
    assert mean_of(first, None) is None
    units = HeadAnswers(Heads(2, HEADS.units), first.answers[:, :2], first.labels[:, :2])
    assert mean_of(first, units) is None
