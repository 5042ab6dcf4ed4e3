"""Tests of cross-validation: folds and seeds, spread, resuming, report."""

from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax.cli import crossval as command
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
    parts = crossval.plan(load(tmp_path), tmp_path, folds=3, seeds=(7, 8))
    assert [(part.fold, part.seed) for part in parts] == [
        (1, 7), (2, 7), (3, 7), (1, 8), (2, 8), (3, 8),
    ]  # fmt: skip
    last = parts[-1]
    assert (last.settings.data.protocol, last.settings.seed) == ("fold3of3", 8)
    assert last.folder == tmp_path / "fold_3" / "seed_8"


def test_without_folds_the_configs_own_protocol_is_repeated(tmp_path):
    settings = load(tmp_path, "data.protocol=official")
    parts = crossval.plan(settings, tmp_path, crossval.NO_FOLDS, seeds=(0, 5))
    assert [(part.seed, part.settings.data.protocol) for part in parts] == [
        (0, "official"), (5, "official"),
    ]  # fmt: skip
    assert parts[1].folder == tmp_path / "seed_5"


@pytest.mark.parametrize(
    ("text", "expected"), [("3", [7, 8, 9]), ("0,5", [0, 5]), ("4,", [4]), ("0", [])]
)
def test_seeds_are_a_number_or_a_list(text, expected):
    assert command.seeds_of(text, first=7) == expected


def test_other_words_for_seeds_are_refused():
    with pytest.raises(UserError, match="a list such as 0,1,2, found 'a,b'"):
        command.seeds_of("a,b", first=0)


@pytest.mark.parametrize(
    ("folds", "seeds"), [(2, (0,)), (3, ()), (-1, (0,)), (3, (1, 1)), (crossval.NO_FOLDS, ())]
)
def test_too_few_folds_or_seeds_are_refused(tmp_path, folds, seeds):
    with pytest.raises(UserError, match="expected --folds of at least 3"):
        crossval.plan(load(tmp_path), tmp_path, folds, seeds)


def test_spread_is_over_folds_and_over_seeds():
    rng = np.random.default_rng(0)
    config = load(Path())
    parts = crossval.plan(config, Path(), folds=3, seeds=(0, 1))
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


@pytest.mark.parametrize(
    ("groups", "unit"),
    [(("a", "b"), "subject"), (("a", ""), "group"), (("", ""), "image")],
)
def test_images_of_unknown_people_are_not_called_people(groups, unit):
    """In the pooled report they are groups of their own."""
    one = Predictions(("x", "y"), np.zeros(2), np.eye(2), groups, ("fear", "anger"))
    assert crossval._unit([one], "subject") == unit


def test_other_folds_or_other_data_need_a_new_folder(tmp_path, monkeypatch):
    changed: dict[str, str] = {}

    def prepared(*, protocol, **_):
        return types.SimpleNamespace(metadata={"digest": changed.get(protocol, protocol)})

    monkeypatch.setattr(crossval.prepare, "prepare", prepared)

    def check(folds: int, seeds: tuple[int, ...] = (0,)) -> None:
        runs = crossval.plan(load(tmp_path), tmp_path, folds, seeds)
        crossval._check_folder(tmp_path, folds, runs)

    check(5)
    check(5, (0, 1))
    assert json.loads((tmp_path / "crossval.json").read_text())["seeds"] == [0, 1]
    for folds in (10, crossval.NO_FOLDS):
        with pytest.raises(UserError, match=r"found a cross-validation of 5; .*--folds 5"):
            check(folds)
    changed["fold2of5"] = "one image is new"
    with pytest.raises(UserError, match=r"other images, labels or splits \(in 1 of 5 folds\)"):
        check(5)


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
    assert report["intervals"]["method"] == "jackknife over 480 people"

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

    table = cli.run("cv", verb="summary")
    assert table.returncode == 0, table.stderr
    (row,) = (line for line in table.stdout.splitlines() if line.startswith("| light_vgg"))
    assert [cell.strip() for cell in row.split("|")][3:7] == ["cv", "3 folds", "3 x 2", "6,720"]


@pytest.mark.slow
def test_seeds_on_the_configs_own_splits(cli, data_dir):
    done = cli.run(
        "--config=configs/demo.py", "--workdir=cv", "--folds=none", "--seeds=3,1",
        f"--config.data.dir={data_dir}", "--config.data.size=16", "--config.train.epochs=1",
        "--config.train.eval_epochs=1", "--config.eval.samples=1", "--config.eval.explain=false",
        verb="crossval",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cv (2 seeds, first seed 3)" in done.stdout
    report = json.loads((cli.folder / "cv" / "report" / "report.json").read_text())
    assert (report["card"]["protocol"], report["count"]) == ("subject", 2 * 700)
    assert "100 people" in report["intervals"]["method"]
