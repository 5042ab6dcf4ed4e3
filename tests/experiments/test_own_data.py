"""Which data is a run's own: only its scores belong to the run's curves."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import open_split
from fer_jax.experiments.evaluate import is_training_data
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
    run: Any = types.SimpleNamespace(data={"train": own.digest}, preprocessing=PREPROCESSING)
    assert is_training_data(run, _folder(tmp_path / "other", seed)) is expected
