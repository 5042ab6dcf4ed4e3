"""`fer-jax labels`: predictions that no network fitted, the files, and the decisions in training.

Runs are started, not trained; the tiny network of `test_leaks` predicts.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.errors import UserError
from fer_jax.experiments import crossval, evaluate, suspects
from fer_jax.experiments.evaluate import OtherData
from fer_jax.models import registry
from fer_jax.report import predictions as saved
from tests import commands
from tests.experiments.test_leaks import Runs, write_folder
from tests.tiny_network import Tiny

FOLDS = 3


class FewRuns(Runs):
    """A run, a run that started from it, and a cross-validation, on 27 faces of 9 people."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_folder(root / "faces", range(9))
        self.start("own", "faces")
        self.start("child", "faces", pretrained="own", protocol="fold1of3")
        settings = self.settings("faces")
        parts = crossval.plan(settings, root / "folds", FOLDS, (0,))
        for part in parts:
            self.start(str(part.folder.relative_to(root)), "faces", protocol=f"fold{part.fold}of3")
            evaluate.evaluate(run_dir.open_run(part.folder), "test")
        crossval._check_folder(root / "folds", FOLDS, parts)
        crossval.pool(parts, root / "folds", FOLDS, 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> FewRuns:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
        yield FewRuns(tmp_path_factory.mktemp("suspects"))


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_crossval_judges_every_image_by_its_test_fold(runs):
    found = suspects.collect(runs.root / "folds")
    pooled = saved.load(runs.root / "folds" / "report" / "predictions.csv")
    assert len(found.predictions) == 27
    assert found.predictions.ids == pooled.ids
    np.testing.assert_allclose(found.predictions.probabilities, pooled.probabilities, atol=1e-6)
    assert sorted(set(found.parts)) == ["fold 1", "fold 2", "fold 3"]
    assert found.images[0].shape == (8, 8, 3)
    assert "learned from others (3 folds)" in found.origin


def test_a_run_judges_its_validation_and_test_images(runs):
    run = run_dir.open_run(runs.root / "own")
    found = suspects.collect(run.folder)
    data = evaluate.open_data(run)
    for split in ("validation", "test"):
        expected = evaluate.run_evaluation(run, split).predictions
        rows = [row for row, part in enumerate(found.parts) if part == split]
        assert [found.predictions.ids[row] for row in rows] == list(expected.ids)
        np.testing.assert_allclose(
            found.predictions.probabilities[rows], expected.probabilities, atol=1e-6
        )
    train = {data.entries[row].id for row in data.splits["train"]}
    assert not train & set(found.predictions.ids)
    assert not any(line.startswith("LEAK") for line in found.warnings)


def test_images_that_an_earlier_run_learned_from_are_a_leak(runs):
    found = suspects.collect(runs.root / "child")
    earlier = run_dir.read_learned(run_dir.open_run(runs.root / "own"))
    seen = [part for name, part in zip(found.predictions.ids, found.parts, strict=True)
            if name in earlier.ids]  # fmt: skip
    assert set(seen) == {"validation"}
    (leak,) = [line for line in found.warnings if line.startswith("LEAK")]
    assert f"learned from {len(seen)} of the {len(found.parts)} images" in leak


def test_an_unfinished_or_changed_crossval_is_refused(runs, tmp_path):
    shutil.copytree(runs.root / "folds", tmp_path / "folds")
    path = tmp_path / "folds" / "fold_2" / "seed_0" / "report" / "predictions.csv"
    one = saved.load(path)
    dataclasses.replace(one, labels=one.labels[::-1]).save(path)
    with pytest.raises(UserError, match="expected predictions for the data as it is now"):
        suspects.collect(tmp_path / "folds")
    path.unlink()
    with pytest.raises(UserError, match="expected a finished cross-validation"):
        suspects.collect(tmp_path / "folds")
    content = {"folds": 0, "seeds": [0], "data": {}}
    (tmp_path / "folds" / "crossval.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="expected a cross-validation with folds"):
        suspects.collect(tmp_path / "folds")


def test_the_command_writes_the_files_and_keeps_decisions(runs, tmp_path, capsys):
    out = tmp_path / "labels"
    commands.run("labels", runs.root / "folds", "--out", out, "--gallery", "2")
    printed = capsys.readouterr().out
    ranked, table = read(out / "suspects.csv"), read(out / "relabel.csv")
    assert f"{len(ranked)} labels are under suspicion" in printed
    assert printed.rstrip().endswith(str(out / "index.html"))
    assert [one["id"] for one in table] == [one["id"] for one in ranked]
    margins = [float(one["margin"]) for one in ranked]
    assert margins == sorted(margins)
    assert margins[-1] < 0
    assert all(one["given"] != one["suggested"] and one["decision"] == "" for one in table)
    counts = read(out / "class_errors.csv")
    assert [one["given"] for one in counts] == ["happiness", "surprise", "anger"]
    assert sum(int(one["images"]) for one in counts) == 27
    assert (out / "index.html").read_text().count("data:image/jpeg") == min(2, len(ranked))
    # A decision, and one about an image that is no suspect, survive another look.
    innocent = next(
        name for name in suspects.collect(runs.root / "folds").predictions.ids
        if name not in {one["id"] for one in table}
    )  # fmt: skip
    text = (out / "relabel.csv").read_text().replace(",\n", ",keep\n", 1)
    (out / "relabel.csv").write_text(f"{text}{innocent},x,,drop\n")
    commands.run("labels", runs.root / "folds", "--out", out)
    again = read(out / "relabel.csv")
    assert again[0]["decision"] == "keep"
    assert (again[-1]["id"], again[-1]["decision"]) == (innocent, "drop")


def test_decisions_reach_training_and_the_report(runs, tmp_path):
    run = run_dir.open_run(runs.root / "own")
    data = evaluate.open_data(run)
    tested = data.entries[data.splits["test"][0]]
    new = next(name for name in data.label_names if name != tested.label)
    path = tmp_path / "relabel.csv"
    path.write_text(f"id,given,decision\n{tested.id},{tested.label},{new}\n")
    shutil.copytree(run.folder, tmp_path / "own")
    moved = run_dir.open_run(tmp_path / "own")
    paths = evaluate.evaluate(moved, "test", OtherData(relabel=str(path)))
    assert paths.folder.name.endswith("-test-relabeled")
    (warning,) = [one for one in json.loads(paths.json.read_text())["warnings"] if "RELAB" in one]
    assert "labels changed: 1, images left out: 0 (relabel.csv" in warning
    relabeled = saved.load(paths.predictions)
    assert relabeled.labels[0] == data.label_names.index(new)
    # The settings of a run name the table; another one, or the own labels, by the flag.
    changed = dataclasses.replace(run.settings.data, relabel=str(path))
    with_table = dataclasses.replace(
        moved, settings=dataclasses.replace(run.settings, data=changed)
    )
    assert evaluate.open_data(with_table).metadata["relabeled"].keys() == {"test"}
    own = evaluate.open_data(with_table, OtherData(relabel="none"))
    assert own.metadata["digest"] == data.metadata["digest"]
