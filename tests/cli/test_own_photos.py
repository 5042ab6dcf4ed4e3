"""`fer-jax train --data FOLDER`: the recipe that fits a folder, a whole run, wrong input."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax import run_dir
from fer_jax.models import registry
from fer_jax.training import own_photos
from fer_jax.training.step_counts import count_steps
from tests import commands
from tests.tiny_network import Tiny
from tfds_builders.image_folder.sample import Sample

PEOPLE = ("anna", "ben", "cora", "dan")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four people with two noisy images of two classes, each 20 pixels wide and 16 high."""
    root, rng = tmp_path_factory.mktemp("my") / "photos", np.random.default_rng(0)
    for person in PEOPLE:
        for name in ("happy", "sad"):
            (root / person / name).mkdir(parents=True)
            for number in range(2):
                image = rng.integers(0, 256, (16, 20, 3), np.uint8)
                cv2.imwrite(str(root / person / name / f"{number}.png"), image)
    return root


@pytest.mark.parametrize(
    ("images", "batch_size", "steps", "epochs"),
    [
        (7, 16, 108, 246),
        (44, 16, 270, 98),
        (216, 32, 299, 44),
        (2100, 64, 493, 15),
        (20000, 128, 2344, 15),
    ],
)
def test_batch_size_and_steps_follow_the_number_of_images(images, batch_size, steps, epochs):
    assert own_photos.schedule(images) == (batch_size, steps)
    assert steps * batch_size // images == epochs
    settings = configuration.load_settings(
        own_photos.CONFIG, [f"train.batch_size={batch_size}", f"train.epochs={steps}st"]
    )
    counts = count_steps(settings, max(1, images // batch_size))
    assert counts.total == steps
    # Patience is a share of the run, however short an epoch is.
    assert counts.eval == pytest.approx(steps / 20, abs=1)
    assert 0.3 < counts.patience * counts.eval / steps < 0.5
    assert counts.head < steps / 4


@pytest.mark.parametrize(
    ("share", "chosen", "expected"),
    [
        (0.4, (), ["data.config=face"]),
        (0.8, (), ["data.config=pad"]),
        (None, ("data.config=keep",), []),  # no look at the images
    ],
)
def test_crops_or_photos_decide_the_variant(photos, monkeypatch, share, chosen, expected):
    seen = Sample(16, (share,) * 16) if share else None
    monkeypatch.setattr(own_photos.sample, "read_sample", lambda *_: seen)
    fitted = own_photos.fit(str(photos), chosen)
    decided = [one for one in fitted.overrides if one.startswith("data.config")]
    assert decided == expected
    assert f"data.manual_dir={photos}" in fitted.overrides
    assert "16 images, 2 classes (happiness, sadness), 4 person folders" in fitted.lines[0]
    assert any("photos, whose faces" in line for line in fitted.lines) == (share == 0.4)


def test_a_folder_is_trained_and_reported(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
    monkeypatch.chdir(tmp_path)
    tiny = ["model.name=tiny", "model.pretrained=none", "model.widths=none", "model.dropout=none",
            "model.head_widths=none", "data.size=8", "train.epochs=20st", "train.pictures=0",
            "eval.samples=0", "eval.explain=false", f"data.dir={tmp_path / 'data'}"]  # fmt: skip
    commands.run("train", "--data", photos, *[f"--config.{override}" for override in tiny])
    out = capsys.readouterr().out
    assert "none of 16 images has a face that the detector finds: taken as face crops" in out
    assert "4 subjects in person folders" in out
    run = run_dir.open_run(tmp_path / "runs" / "photos")
    assert run.data["crop"]["method"] == "pad"
    assert run.settings.train.batch_size == 16
    assert (run.report / "report.json").is_file()


def _one_class(photos, root):
    shutil.copytree(photos / "anna" / "happy", root / "happy")


def _file(photos, root):
    shutil.copy(photos / "anna" / "happy" / "0.png", root)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda *_: None, "no such folder"),
        (lambda _, root: root.mkdir(), "an empty folder"),
        (_file, "a file that is not an archive (give its folder instead)"),
        (_one_class, "expected at least two class folders"),
    ],
    ids=["nothing", "empty", "file", "one class"],
)
def test_a_wrong_folder_is_one_message(photos, tmp_path, monkeypatch, capsys, write, message):
    monkeypatch.chdir(tmp_path)
    write(photos, tmp_path / "mine")
    with pytest.raises(SystemExit) as stopped:
        commands.run("train", "--data", "mine")
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("expected") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --config --data is required"),
        (["--data"], "expected one argument"),
        (["--data", ""], "expected a folder of images, found no name"),
        (["--data", "x", "--config", "y"], "not allowed with argument"),
    ],
)
def test_wrong_arguments_are_one_message(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        commands.run("train", *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
