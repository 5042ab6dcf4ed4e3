"""Table 1 beside runs, the cross-data-set matrix, and directories without a report."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fer_jax.cli import summary as cli
from fer_jax.errors import UserError
from fer_jax.experiments import comparison
from fer_jax.experiments import comparison_tables as summary


def write_report(
    runs: Path,
    name: str,
    accuracy: float,
    *,
    trained: str = "kdef",
    dataset: str | None = None,
    model: str = "custom_cnn",
    seed: int = 0,
    split: str = "test",
    protocol: str = "paper",
    warnings: tuple[str, ...] = (),
    epochs: int = 30,
    **card,
) -> Path:
    """Writes a run directory with the report of `evaluate`."""
    folder = runs / name
    place = folder / "report" / ("" if dataset is None and split == "test" else f"{dataset}{split}")
    place.mkdir(parents=True)
    described = {"data": {"name": f"{trained}/face/1.0.0", "protocol": protocol}}
    (folder / "run.json").write_text(json.dumps(described))
    config = {"seed": seed, "data": {"dir": name}, "train": {"epochs": epochs}}
    (folder / "config.json").write_text(json.dumps(config))
    card = {"dataset": dataset or trained, "protocol": protocol, "split": split, "model": model,
            "seed": seed, "folds": 0, **card}  # fmt: skip
    report = {
        "card": card, "warnings": [f"{mark}: because" for mark in warnings], "count": 800,
        "accuracy": accuracy, "balanced_accuracy": accuracy - 0.01,
        "intervals": {"accuracy": [accuracy - 0.02, accuracy + 0.02]},
    }  # fmt: skip
    (place / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def table(tmp_path):
    def read():
        reports, _ = comparison.read_runs(sorted(tmp_path.iterdir()))
        return comparison.table_1(reports)

    return read


def paper_rows(rows) -> list[tuple[str, ...]]:
    return list(summary.paper_table(rows).rows[1:])


def cells(text: str) -> list[list[str]]:
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_all_rows_of_the_paper_are_in_its_order(tmp_path, table):
    write_report(tmp_path, "a", 0.9)
    rows = paper_rows(table())
    assert [row[:3] for row in rows] == [
        ("RaFD", "VGG16", "68.84%"),
        ("SFEW", "InceptionResNetV2", "40.78%"),
        ("AM-FED+", "InceptionResNetV2", "54.13%"),
        ("RAF-DB", "LightVGG", "75.26%"),
        ("KDEF", "custom CNN", "99.63%"),
    ]
    assert [row[3] for row in rows] == ["not run"] * 4 + ["custom_cnn"]


def test_a_run_is_beside_the_papers_result_with_its_protocol_and_warnings(tmp_path, table):
    write_report(tmp_path, "a", 0.9125, warnings=("STAND-IN", "LEAK"), folds=10, seeds=3)
    assert paper_rows(table())[-1] == (
        "KDEF", "custom CNN", "99.63%", "custom_cnn", "a", "paper", "10 x 3", "800",
        "91.25% [89.2, 93.2]", "90.25%", "STAND-IN, LEAK",
    )  # fmt: skip


def test_a_run_without_an_interval_says_why(tmp_path, table):
    path = write_report(tmp_path, "a", 0.9125) / "report" / "report.json"
    reason = "8 people are needed for an interval; there are 5"
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"intervals": {"accuracy": None, "method": reason}}))
    rows = table()
    assert paper_rows(rows)[-1][8] == "91.25% (no interval)"
    table = [summary.paper_table(rows)]
    assert f"No interval: a: {reason}." in summary.markdown(table)
    assert reason in summary.as_html(table)
    assert list(csv.DictReader(io.StringIO(summary.as_csv(rows))))[-1]["accuracy_low"] == ""


def test_runs_that_differ_only_in_their_seed_share_a_row(tmp_path, table):
    for seed, accuracy in enumerate((0.90, 0.92, 0.94)):
        write_report(tmp_path, f"s{seed}", accuracy, seed=seed)
    write_report(tmp_path, "longer", 0.5, epochs=60)
    write_report(tmp_path, "other_protocol", 0.6, protocol="subject")
    ours = {row[4]: row for row in paper_rows(table())[4:]}
    assert set(ours) == {"s0 and 2 more", "longer", "other_protocol"}
    assert ours["s0 and 2 more"][6:9] == ("1 x 3", "800", "92.00% ± 2.00")


def test_a_seed_that_failed_stays_in_its_row(tmp_path, table):
    failed = ("STAND-IN", "DEAD UNITS", "CHANCE")
    for seed, (accuracy, warnings) in enumerate(
        [(0.9, failed[:1]), (0.1, failed), (0.8, failed[:1])]
    ):
        write_report(tmp_path, f"s{seed}", accuracy, seed=seed, warnings=warnings)
    write_report(tmp_path, "real", 0.9)
    ours = {row[4]: row for row in paper_rows(table())[4:]}
    assert set(ours) == {"s0 and 2 more", "real"}
    assert ours["s0 and 2 more"][8].startswith("60.00%")
    marks = "STAND-IN, DEAD UNITS (1 of 3 runs), CHANCE (1 of 3 runs)"
    assert ours["s0 and 2 more"][10] == marks


def write_crossval(runs: Path, name: str, accuracy: float, folds: int, seeds: list[int]) -> Path:
    """Writes the directory of a cross-validation: its runs, one with a report, and the pool's."""
    described = {"seed": seeds[0], "folds": folds, "seeds": len(seeds), "protocol": "5 folds"}
    folder = write_report(runs, name, accuracy, **described)
    inner = folder / "fold_1" / "seed_0"
    write_report(inner.parent, inner.name, 0.1, protocol="fold1of5")
    for file in ("run.json", "config.json"):
        (folder / file).unlink()
    (folder / "crossval.json").write_text(json.dumps({"folds": folds, "seeds": seeds}))
    return folder


def test_a_cross_validation_is_one_report(tmp_path, table):
    write_crossval(tmp_path, "cv", 0.9, folds=5, seeds=[0, 1, 2])
    write_crossval(tmp_path, "again", 0.8, folds=5, seeds=[2, 3, 4])
    write_crossval(tmp_path, "one_seed", 0.7, folds=5, seeds=[9])
    ours = {row[4]: row[5:9] for row in paper_rows(table())[4:]}
    assert ours == {
        "again and 1 more": ("5 folds", "5 x 5", "800", "85.00% ± 7.07"),
        "one_seed": ("5 folds", "5 x 1", "800", "70.00% [68.0, 72.0]"),
    }


def test_an_unfinished_cross_validation_is_listed_and_skipped(tmp_path):
    write_report(tmp_path, "good", 0.9)
    folder = write_crossval(tmp_path, "cv", 0.9, folds=5, seeds=[0])
    (folder / "report" / "report.json").unlink()
    _, remarks = comparison.read_runs(sorted(tmp_path.iterdir()))
    assert remarks == [f"{folder}: cross-validation not finished yet"]


def test_the_papers_network_comes_first_and_other_sets_last(tmp_path, table):
    write_report(tmp_path, "a", 0.7, model="a_network")
    write_report(tmp_path, "b", 0.8)
    write_report(tmp_path, "c", 0.6, trained="fer2013")
    assert [(row[0], row[3]) for row in paper_rows(table())[4:]] == [
        ("KDEF", "custom_cnn"), ("KDEF", "a_network"), ("fer2013", "custom_cnn"),
    ]  # fmt: skip


def test_of_several_splits_only_test_is_shown(tmp_path, table):
    write_report(tmp_path, "a", 0.9)
    write_report(tmp_path, "a", 0.5, split="validation")
    write_report(tmp_path, "b", 0.4, split="validation", seed=7)
    rows = paper_rows(table())[4:]
    assert [(row[4], row[5], row[8][:6]) for row in rows] == [
        ("a", "paper", "90.00%"), ("b", "paper, validation", "40.00%"),
    ]  # fmt: skip


def test_the_cross_data_set_matrix(tmp_path):
    write_report(tmp_path, "k", 0.9)
    write_report(tmp_path, "k", 0.3, dataset="raf_db", warnings=("STAND-IN",))
    write_report(tmp_path, "r", 0.7, trained="raf_db", model="light_vgg")
    for seed, accuracy in enumerate((0.80, 0.84)):
        write_report(tmp_path, f"s{seed}", accuracy, seed=seed, protocol="subject")
    reports, _ = comparison.read_runs(sorted(tmp_path.iterdir()))
    matrix = comparison.cross_matrix(reports)
    assert list(summary.matrix_table(matrix).rows) == [
        ("trained on", "kdef", "raf_db"),
        ("kdef (paper), custom_cnn: k", "90.00%", "30.00% (STAND-IN, UNCHECKED)"),
        ("kdef (subject), custom_cnn: s0 and 1 more", "82.00%", ""),
        ("raf_db (paper), light_vgg: r", "", "70.00%"),
    ]
    # Table 1 has no evaluation on another data set.
    raf_db = [row for row in comparison.table_1(reports) if row.published.dataset == "raf_db"]
    assert [run.run for row in raf_db for run in row.runs] == ["r"]


def test_without_other_data_sets_there_is_no_matrix(tmp_path):
    write_report(tmp_path, "k", 0.9)
    assert comparison.cross_matrix(comparison.read_runs([tmp_path / "k"])[0]) is None


def test_markdown_csv_and_html_agree(tmp_path, capsys):
    write_report(tmp_path / "runs", "k", 0.9125, warnings=("STAND-IN",))
    write_report(tmp_path / "runs", "k", 0.3, dataset="raf_db")
    out = tmp_path / "out"
    cli.main([str(tmp_path / "runs" / "k"), "--out", str(out), "--paper"])
    text = (out / "summary.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert cells(text)[6][8] == "91.25% [89.2, 93.2]"
    table = list(csv.DictReader(io.StringIO((out / "table_1.csv").read_text())))
    assert float(table[4]["accuracy"]) == 0.9125
    assert float(table[4]["paper_accuracy"]) == 0.9963
    assert table[4]["marks"] == "STAND-IN"
    page = (out / "summary.html").read_text()
    for shown in ("91.25% [89.2, 93.2]", "STAND-IN", "99.63%", "30.00%"):
        assert shown in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []


def test_names_are_escaped_in_every_format(tmp_path):
    write_report(tmp_path, "k", 0.9, protocol="<b>|x")
    rows = comparison.table_1(comparison.read_runs([tmp_path / "k"])[0])
    tables = [summary.paper_table(rows)]
    assert "&lt;b&gt;|x" in summary.as_html(tables)
    assert r"<b>\|x" in summary.markdown(tables)
    assert r"$<$b$>$|x" in summary.as_latex(tables)


def test_names_are_no_formulas_in_csv(tmp_path):
    write_report(tmp_path, "=1+1", 0.9, protocol="@paper")
    runs = comparison.read_runs([tmp_path / "=1+1"])[0]
    row = list(csv.DictReader(io.StringIO(summary.as_csv(comparison.table_1(runs)))))[-1]
    assert (row["runs"], row["protocol"], row["accuracy"]) == ("'=1+1", "'@paper", "0.9")


def test_an_ensemble_is_a_row(tmp_path):
    model = "mean of 2 networks (vgg16)"
    folder = write_report(tmp_path, "a+b", 0.9, model=model, members=2)
    (folder / "report").rename(folder / "evaluations")
    for file in ("run.json", "config.json"):
        (folder / file).unlink()
    (row,) = comparison.own_rows(comparison.read_runs([folder])[0])
    assert (row.runs[0].run, row.runs[0].model, row.accuracy) == ("a+b", model, 0.9)


def test_directories_without_a_report_are_listed_and_skipped(tmp_path, capsys):
    write_report(tmp_path, "good", 0.9)
    (tmp_path / "empty").mkdir()
    damaged = write_report(tmp_path, "damaged", 0.9)
    (damaged / "report" / "report.json").write_text("{}")
    cli.main([str(path) for path in sorted(tmp_path.iterdir())])
    errors = capsys.readouterr().err
    assert "empty: not a run directory" in errors
    assert "damaged/report/report.json: cannot be read (KeyError" in errors


def test_without_any_report_it_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"directories with a report.*not a run directory"):
        cli.main([str(tmp_path)])


def test_it_needs_no_jax():
    program = "import sys; from fer_jax.cli import summary; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.browser
def test_the_page_opens_and_scrolls_its_table_alone(tmp_path, chromium):
    write_report(tmp_path / "runs", "k", 0.9125, warnings=("STAND-IN",))
    cli.main([str(tmp_path / "runs" / "k"), "--paper", "--out", str(tmp_path / "out")])
    browser = chromium()
    browser.open((tmp_path / "out" / "summary.html").as_uri())
    for width in (1280, 500):
        browser.resize(width, 800)
        assert not browser.overflows()
    assert browser.errors() == []
