"""Tests of cross-validation: folds and seeds, spread, resuming, report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax.errors import UserError
from fer_jax.experiments import crossval
from fer_jax.report import predictions as saved
from fer_jax.report.predictions import Predictions


def load(data_dir: Path, *overrides: str):
    return configuration.load_settings(
        "configs/demo.py",
        [f"data.dir={data_dir}", "data.size=16", "train.epochs=1", "train.eval_epochs=1",
         "eval.samples=1", "eval.explain=false", *overrides],
    )  # fmt: skip


def test_the_plan_has_each_fold_with_each_seed(tmp_path):
    parts = crossval.plan(load(tmp_path, "seed=7"), tmp_path, folds=3, seeds=2)
    assert [(part.fold, part.seed) for part in parts] == [
        (1, 7), (2, 7), (3, 7), (1, 8), (2, 8), (3, 8),
    ]  # fmt: skip
    last = parts[-1]
    assert (last.settings.data.protocol, last.settings.seed) == ("fold3of3", 8)
    assert last.folder == tmp_path / "fold_3" / "seed_8"


@pytest.mark.parametrize(("folds", "seeds"), [(2, 1), (3, 0), (-1, 1)])
def test_too_few_folds_or_seeds_are_refused(tmp_path, folds, seeds):
    with pytest.raises(UserError, match="expected --folds of at least 3"):
        crossval.plan(load(tmp_path), tmp_path, folds, seeds)


def test_spread_is_over_folds_and_over_seeds():
    rng = np.random.default_rng(0)
    config = load(Path())
    parts = crossval.plan(config, Path(), folds=3, seeds=2)
    said = [
        Predictions(("a", "b", "c", "d"), np.array([0, 0, 1, 1]), rng.dirichlet([1, 1], 4),
                    ("g",) * 4, ("x", "y"))
        for _ in parts
    ]  # fmt: skip
    rows = dict(crossval.spread(parts, said))
    right = np.array([(one.predicted == one.labels).mean() for one in said])
    seeds = right.reshape(2, 3).mean(axis=1)
    assert rows["accuracy, over the folds"] == (
        f"{right.mean():.4f} (standard deviation {right.std(ddof=1):.4f}), 6 values"
    )
    assert rows["accuracy, over the seeds (folds pooled)"] == (
        f"{seeds.mean():.4f} (standard deviation {seeds.std(ddof=1):.4f}), 2 values"
    )


def test_a_different_number_of_folds_needs_a_new_folder(tmp_path):
    crossval._check_folds(tmp_path, 5)
    crossval._check_folds(tmp_path, 5)
    with pytest.raises(UserError, match="found a cross-validation of 5"):
        crossval._check_folds(tmp_path, 10)


@pytest.mark.slow
def test_a_whole_cross_validation(cli, data_dir):
    arguments = (
        "--config=configs/demo.py", "--workdir=cv", "--folds=3", "--seeds=2",
        f"--config.data.dir={data_dir}", "--config.data.size=16", "--config.train.epochs=1",
        "--config.train.eval_epochs=1", "--config.eval.samples=1", "--config.eval.explain=false",
    )  # fmt: skip
    first = cli.run(*arguments, verb="crossval")
    assert first.returncode == 0, first.stderr
    folder = cli.folder / "cv"
    report = json.loads((folder / "report" / "report.json").read_text())
    assert (report["card"]["folds"], report["card"]["seeds"]) == (3, 2)
    assert report["count"] == 2 * 3360
    pooled = saved.load(folder / "report" / "predictions.csv")
    assert len(set(pooled.ids)) == len(pooled.ids)
    people = [
        set(saved.load(folder / f"fold_{fold}" / "seed_0" / "report" / "predictions.csv").groups)
        for fold in (1, 2, 3)
    ]
    assert sum(map(len, people)) == len(set.union(*people)) == 480  # each person once per seed
    assert report["intervals"]["method"] == "jackknife over 480 groups"

    # One run is deleted; only that one is trained again, with bit-identical results.
    lost = folder / "fold_2" / "seed_1"
    before = (lost / "report" / "predictions.csv").read_text()
    (lost / "report" / "predictions.csv").unlink()
    again = cli.run(*arguments, verb="crossval")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already finished") == 5
    assert (lost / "report" / "predictions.csv").read_text() == before

    other = cli.run(*arguments[:2], "--folds=4", *arguments[3:], verb="crossval")
    assert other.returncode == 2
    assert "choose another --workdir" in other.stderr
