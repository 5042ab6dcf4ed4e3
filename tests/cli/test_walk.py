"""All verbs, in new processes: train, evaluate, predict, explain, export, serve.

Uses a stand-in of KDEF, which stores crops as most sets do. Other tests cover the details.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import commands
from tests.chromium import chromium

__all__ = ["chromium"]


@pytest.fixture(scope="module")
def walk(tmp_path_factory, cli_in):
    """Returns a `Cli` in the folder of a run that was trained on a stand-in for a few steps."""

    folder = tmp_path_factory.mktemp("walk")
    commands.run("stand-in", "kdef", folder / "kdef", "--scale", "0.06")
    cli = cli_in(folder)
    cli.data_dir = folder / "tfds"
    done = cli.run(
        "--config=configs/kdef.py", f"--config.data.manual_dir={folder / 'kdef'}",
        "--config.model.name=light_vgg", "--config.data.size=32", "--config.train.epochs=2",
        "--config.train.batch_size=16", "--workdir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "STAND-IN" in done.stdout
    return cli


@pytest.fixture(scope="module")
def media(walk) -> Path:
    """Returns some of the stand-in's photos, as a folder and as a video."""
    folder = walk.folder / "media"
    folder.mkdir()
    photos = sorted((walk.folder / "kdef").rglob("*S.JPG"))[:6]  # frontal views
    for path in photos:
        shutil.copy(path, folder)
    images = [cv2.imread(str(path)) for path in photos]
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(
        str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (width, height)
    )
    for image in np.repeat(images, 3, axis=0):
        writer.write(image)
    writer.release()
    return folder


@pytest.mark.slow
def test_from_a_stand_in_to_exported_files(walk, media):
    assert walk.run("run", "--split=validation", verb="evaluate").returncode == 0
    photo = next(media.glob("*.JPG"))
    for inputs in ((photo,), (media,), (media / "clip.mp4",)):
        done = walk.run("run", *inputs, "--out=seen", "--explain", verb="predict")
        assert done.returncode == 0, done.stderr
        assert "STAND-IN" in done.stdout
        content = json.loads((walk.folder / "seen" / "predictions.json").read_text())
        assert content["sources"]
        assert all(frame["faces"] for frame in content["frames"] if frame["seconds"] is None)
    for kind in ("onnx", "stablehlo"):
        done = walk.run("run", f"--format={kind}", f"--out={kind}/it", verb="export")
        assert done.returncode == 0, done.stderr
        assert re.search(r"compared on \d+ test images of kdef", done.stdout)
    done = walk.run("run", "--out=summary", verb="summary")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| light_vgg .*STAND-IN", done.stdout)
    done = walk.run("run", "--paper", "--out=summary", verb="summary")
    assert re.search(r"KDEF .*99\.63% \| light_vgg .*STAND-IN", done.stdout)


@pytest.mark.browser
def test_the_page_shows_a_prediction(walk, media, chromium):
    process = walk.start("run", verb="serve")
    try:
        line = process.stdout.readline()
        assert "is served at" in line, process.communicate()[1]
        browser = chromium()
        browser.open(re.search(r"http://\S+", line).group())
        browser.wait_for("#picture input[type=file]").send_keys(str(next(media.glob("*.JPG"))))
        browser.wait_for("#listed .fer-face")
        assert "STAND-IN" in browser.wait_for(".fer-banner").text
        assert browser.errors() == []
    finally:
        process.terminate()
        process.communicate(timeout=30)
