"""The ranking of runs, its paired comparisons, and their files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from fer_jax.cli import summary as cli
from fer_jax.experiments import comparison, comparison_tables, ranking
from fer_jax.report.predictions import Predictions
from tests.experiments.test_comparison import write_report

PEOPLE, IMAGES = 12, 10


def write_run(runs: Path, name: str, right: float, **fields: object) -> Path:
    """Writes a run that recognizes a share of the images of each person, the first ones."""
    folder = write_report(runs, name, right, **fields)
    ids = tuple(f"{person}_{image}" for person in range(PEOPLE) for image in range(IMAGES))
    # One person is harder: without variation there is no interval.
    shares = [right - 0.2 * (person == 0) for person in range(PEOPLE)]
    is_right = np.array(
        [image + 0.5 < IMAGES * share for share in shares for image in range(IMAGES)]
    )
    probabilities = np.where(is_right[:, None], [0.9, 0.1], [0.1, 0.9])
    labels = np.zeros(len(ids), np.int32)
    groups = tuple(name.split("_")[0] for name in ids)
    predictions = Predictions(ids, labels, probabilities, groups, ("happiness", "sadness"))
    predictions.save(folder / "report" / "predictions.csv")
    return folder


def ranked(folder: Path) -> list[ranking.Ranking]:
    return ranking.rank(comparison.read_runs(sorted(folder.iterdir()))[0])


def test_seeds_share_a_row_and_the_best_comes_first(tmp_path: Path) -> None:
    for seed, right in enumerate((0.5, 0.7)):
        write_run(tmp_path, f"a{seed}", right, seed=seed)
    for seed, right in enumerate((0.8, 0.9)):
        write_run(tmp_path, f"b{seed}", right, seed=seed, epochs=60)
    (found,) = ranked(tmp_path)
    assert [(one.settings, one.row.accuracy) for one in found.ranks] == [
        ("train.epochs=60", pytest.approx(0.85)), ("train.epochs=30", pytest.approx(0.6)),
    ]  # fmt: skip
    assert found.ranks[0].name == "custom_cnn train.epochs=60"
    best = found.ranks[0].interval
    assert best is not None
    assert best.low < 0.85 < best.high
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.mcnemar) == (0, 1, None)
    assert pair.difference == pytest.approx(0.25)
    assert pair.p_value is not None
    assert pair.p_value < 0.01


def test_rows_of_other_records_or_protocols_are_not_paired(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0.9)
    write_run(tmp_path, "b", 0.5, epochs=60)
    other = write_run(tmp_path, "c", 0.7, epochs=90) / "report" / "predictions.csv"
    other.write_text(other.read_text().replace("11_9,", "12_0,"))
    write_run(tmp_path, "d", 0.7, protocol="subject")
    write_report(tmp_path, "without_predictions", 0.8, epochs=120)
    first, second = ranked(tmp_path)
    assert [one.row.runs[0].run for one in first.ranks] == ["a", "without_predictions", "c", "b"]
    assert [(pair.first, pair.second) for pair in first.pairs] == [(0, 3)]
    assert second.pairs == ()


def test_a_sweep_stands_for_its_runs(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for name, right in (("x=1", 0.9), ("x=2", 0.8)):
        write_run(sweep / name, "seed_0", right, epochs=int(100 * right))
    (sweep / "sweep.json").write_text(json.dumps({"fields": ["x"]}))
    (found,) = ranked(tmp_path)
    assert [one.row.runs[0].run for one in found.ranks] == ["sweep/x=1/seed_0", "sweep/x=2/seed_0"]


def test_the_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(tmp_path / "runs", "a", 0.9, warnings=("STAND-IN",))
    write_run(tmp_path / "runs", "b_1", 0.5, epochs=60, warnings=("STAND-IN", "CHANCE"))
    out = tmp_path / "out"
    cli.main([str(tmp_path / "runs" / "a"), str(tmp_path / "runs" / "b_1"), "--out", str(out)])
    printed = capsys.readouterr().out
    assert (out / "summary.md").read_text() in printed
    assert "not run" not in printed  # the paper's Table 1 is not asked for
    rows = list(csv.DictReader(io.StringIO((out / "summary.csv").read_text())))
    assert [(row["rank"], row["runs"], float(row["accuracy"])) for row in rows] == [
        ("1", "a", 0.9), ("2", "b_1", 0.5),
    ]  # fmt: skip
    pairs = list(csv.DictReader(io.StringIO((out / "pairs.csv").read_text())))
    assert pairs[0]["better"] == "custom_cnn train.epochs=30 (a)"
    assert float(pairs[0]["difference"]) == pytest.approx(0.4)
    assert float(pairs[0]["p_mcnemar"]) == pytest.approx(2**-47)
    latex = (out / "summary.tex").read_text()
    assert latex.count(r"\toprule") == latex.count(r"\end{table}") == 2
    assert r"custom\_cnn & train.epochs=30 & paper & 1 x 1 & 800 & 90.00\%" in latex
    assert r"Warnings: STAND-IN. custom\_cnn train.epochs=60: CHANCE.}" in latex
    assert "&lt; 0.001" in (out / "summary.html").read_text()


def test_latex_escapes_names() -> None:
    rows = (("a_b", "5%"), ("~x^{2}", r"\& ± <b>"))
    text = comparison_tables.as_latex([comparison_tables.Table("t", rows, frozenset({1}))])
    assert r"a\_b & 5\% \\" in text
    assert (
        r"\textasciitilde{}x\textasciicircum{}\{2\} & \textbackslash{}\& $\pm$ $<$b$>$ \\" in text
    )
