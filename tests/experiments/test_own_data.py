"""Which data is a run's own: only its scores belong to the run's curves."""

from __future__ import annotations

import shutil
import types
from pathlib import Path
from typing import Any

import pytest

from fer_jax import config as configuration
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import open_split
from fer_jax.errors import UserError
from fer_jax.experiments.evaluate import (
    OtherData,
    environment_notes,
    is_training_data,
    open_data,
)
from fer_jax.heads import NO_HEADS
from tests.tfds_builders import small_kdef
from tfds_builders import prepare

PREPROCESSING = Preprocessing(16, "unit")


def _folder(root: Path, seed: str) -> Any:
    for label in ("happy", "sad"):
        (root / label).mkdir(parents=True)
        for number in range(4):
            image = small_kdef.draw(f"{seed} {label} {number}")
            (root / label / f"{number}.jpg").write_bytes(image)
    return prepare.prepare("image_folder", None, str(root.parent / "data"), str(root))


@pytest.mark.parametrize(("seed", "expected"), [("a", True), ("b", False)])
def test_another_copy_of_the_set_is_not_the_runs_own(
    seed: str, expected: bool, tmp_path: Path
) -> None:
    own = open_split(_folder(tmp_path / "own", "a"), "train", PREPROCESSING)
    run: Any = types.SimpleNamespace(
        data={"train": own.digest}, preprocessing=PREPROCESSING, heads=NO_HEADS,
        settings=configuration.load_settings("image_folder", []),
    )  # fmt: skip
    assert is_training_data(run, _folder(tmp_path / "other", seed)) is expected


def test_data_that_is_not_prepared_is_not_copied_from_where_a_run_says(tmp_path: Path) -> None:
    prepared = _folder(tmp_path / "own", "a")
    data = tmp_path / "data"

    def run(source: Path) -> Any:
        overrides = [f"data.dir={data}", f"data.manual_dir={source}"]
        settings = configuration.load_settings("image_folder", overrides)
        return types.SimpleNamespace(settings=settings, folder=tmp_path / "run")

    assert open_data(run(tmp_path / "own")).entries == prepared.entries
    other = tmp_path / "private images"
    shutil.copytree(tmp_path / "own", other)
    before = sorted(data.rglob("*"))
    with pytest.raises(UserError, match=f"to prepare it from there, add --manual_dir '{other}'"):
        open_data(run(other))
    assert sorted(data.rglob("*")) == before
    assert len(open_data(run(other), OtherData(manual_dir=str(other))).entries) == 8


@pytest.mark.parametrize(
    ("environments", "notes"),
    [((), 0), (({"cores": "2"},), 0), (({"cores": "2"}, {"cores": "4"}), 1)],
)
def test_the_report_notes_other_environments(environments: tuple, notes: int) -> None:
    trained: Any = types.SimpleNamespace(environments=environments)
    found = environment_notes(trained)
    assert len(found) == notes
    assert not notes or "resumed with cores 2, then 4: the bits may differ" in found[0]
