"""`fer-jax export --format web`: the page in Chromium reads what `fer-jax predict` reads.

Photos and a fake webcam; the page's framing, which is a translation to JavaScript, for every way
of cropping; the package with ONNX Runtime Web.
"""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fer_jax
from fer_jax.cli import export as cli
from fer_jax.errors import UserError
from fer_jax.export import card, export_run, ort_web, web
from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.decode import read_image
from fer_jax.faces.detect import Face, clip
from fer_jax.faces.framing import Framing
from fer_jax.inference import locate
from fer_jax.serve.page import EXAMPLES
from tests import chromium as browsers
from tests.small_runs import write_image

BOX = (104.9, 102.7, 103.2, 134.2)
LANDMARKS = ((131.9, 155.7), (180.5, 155.5), (156.1, 188.1), (133.7, 205.3), (180.7, 203.0))

FRAME = """
const [framing, pixels, width, height, box, landmarks, done] = arguments;
import("/framing.js").then((module) => {
  const data = Uint8Array.from(atob(pixels), (letter) => letter.charCodeAt(0));
  const image = { data, width, height };
  const face = { box, landmarks, found: "mtcnn" };
  const found = module.frame(framing, image, module.adapted(framing, face, width, height));
  done([Array.from(found.data), Array.from(module.frameWhole(framing, image).data)]);
});
"""

FACES = """
return Array.from(document.querySelectorAll(".face"), (face) => ({
  box: face.dataset.box.split(",").map(Number), found: face.dataset.found,
  label: face.dataset.label,
  crop: Array.from(face.querySelector("canvas").getContext("2d").getImageData(
    0, 0, face.querySelector("canvas").width, face.querySelector("canvas").height).data),
  probabilities: Array.from(face.querySelectorAll("data"), (data) => Number(data.value)),
}));
"""


@pytest.fixture(scope="module")
def ort() -> dict[str, bytes]:
    """ONNX Runtime Web, as a user without --ort gets it."""
    return ort_web.read(None)


@pytest.fixture(scope="module")
def page(tmp_path_factory, ort) -> Path:
    """The page of the shipped run, written by the command."""
    out = tmp_path_factory.mktemp("web") / "page"
    cli.main(["--format=web", "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def small_page(tmp_path_factory, run, ort) -> Path:
    """The page of the small run, which crops with a margin."""
    out = tmp_path_factory.mktemp("small_web") / "page"
    export_run.export(run, "web", "float32", out, export_run.noise_samples(run), ort)
    return out


@pytest.fixture
def serve() -> Iterator:
    """Serves folders on this machine; returns their addresses."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def start(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def upload(browser: browsers.Browser, path: Path) -> list[dict]:
    """Chooses a photo and returns the faces that the page lists."""
    driver = browser.driver
    driver.execute_script("document.getElementById('faces').replaceChildren()")
    driver.find_element("id", "file").send_keys(str(path))
    browser.wait_for(".face")
    return driver.execute_script(FACES)


def check(shown: list[dict], model, path: Path) -> None:
    """The page shows the faces of `predict`: boxes within two pixels, and the probabilities."""
    (expected,) = model.predict(path, faces="all")
    faces = sorted(expected.faces, key=lambda face: face.box[0])
    assert [face["found"] for face in shown] == [face.found for face in faces]
    for one, face in zip(shown, faces, strict=True):
        np.testing.assert_allclose(one["box"], face.box, atol=2)
        np.testing.assert_allclose(
            one["probabilities"], list(face.probabilities.values()), atol=1e-3
        )
        assert one["label"] == face.label


@pytest.mark.browser
def test_photos_are_read_as_by_predict_and_nothing_leaves_the_page(page, chromium, serve):
    model, address, browser = fer_jax.load("ferplus"), serve(page), chromium()
    browser.open(address)
    browser.wait_for("#file:not([disabled])")
    for name in ("1_happiness.jpg", "2_surprise.jpg", "3_anger.jpg", "4_group.jpg"):
        check(upload(browser, EXAMPLES / name), model, EXAMPLES / name)
    text = browser.driver.find_element("tag name", "main").text
    assert "Nothing leaves your browser" in text
    assert "An expression does not show what a person feels" in text
    assert "trained on ferplus" in text
    assert "0.8639 (3153 images)" in text
    for width in (420, 1280):
        browser.resize(width, 900)
        assert not browser.overflows()
    assert browser.errors() == []
    assert browser.foreign_requests(address) == []


@pytest.mark.browser
def test_a_run_with_a_margin_and_inputs_without_a_face(small_page, model, media, chromium, serve):
    browser = chromium()
    browser.open(serve(small_page))
    browser.wait_for("#file:not([disabled])")
    for name in ("anna.png", "group.jpg", "wall.png"):
        check(upload(browser, media / name), model, media / name)
    status = browser.driver.find_element("id", "status")
    assert status.text == "No face was found, so the whole image was classified."
    browser.driver.find_element("id", "given").click()
    browser.wait_for(".face[data-found=given]")
    (given,) = browser.driver.execute_script(FACES)
    (expected,) = model.predict(media / "wall.png", faces="whole")[0].faces
    values = list(expected.probabilities.values())
    np.testing.assert_allclose(given["probabilities"], values, atol=1e-3)
    browser.driver.find_element("id", "file").send_keys(str(media / "notes.txt"))
    browser.wait_for("#status.wrong")
    assert status.text == "notes.txt cannot be read as an image."
    assert browser.errors() == []


@pytest.mark.browser
def test_the_webcam_is_read_until_it_is_stopped(page, serve, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    frame = np.full((480, 640, 3), 160, np.uint8)
    frame[80:400, 200:520] = read_image(EXAMPLES / "2_surprise.jpg")
    still = write_image(tmp_path / "frame.jpg", frame)
    (tmp_path / "clip.mjpeg").write_bytes(5 * still.read_bytes())
    flags = (
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={tmp_path / 'clip.mjpeg'}",
    )  # fmt: skip
    with browsers.open_window(*flags) as browser:
        browser.open(serve(page))
        browser.wait_for("#camera:not([disabled])").click()
        browser.wait_for(".face")
        (face,) = browser.driver.execute_script(FACES)
        status = browser.driver.find_element("id", "status")
        WebDriverWait(browser.driver, 60).until(lambda _: "frames/s" in status.text)
        browser.driver.find_element("id", "camera").click()
        assert status.text == "The webcam is off."
        assert browser.errors() == []
    model = fer_jax.load("ferplus")
    (expected,) = model.predict(still)[0].faces
    np.testing.assert_allclose(face["box"], expected.box, atol=8)  # video has other colors
    crop = np.array(face["crop"], np.uint8).reshape(1, model.size, model.size, 4)[..., :3]
    (probabilities,) = model.predict_faces(crop)
    np.testing.assert_allclose(face["probabilities"], probabilities, atol=1e-3)
    assert face["label"] == model.labels[probabilities.argmax()]


@pytest.mark.browser
def test_a_missing_file_is_a_message_on_the_page(page, chromium, serve, tmp_path):
    for source in page.iterdir():
        (tmp_path / source.name).symlink_to(source)
    (tmp_path / "model.onnx").unlink()
    browser = chromium()
    browser.open(serve(tmp_path))
    status = browser.wait_for("#status.wrong")
    assert "expected the file model.onnx beside the page, found none" in status.text


FRAMINGS = (
    (0.05, FaceCrop(), "landmarks", 200),
    (0.3, FaceCrop(), "none", 48),
    (None, FaceCrop(), "ellipse", 48),
    (None, FaceCrop(margin=0.0, method="keep"), "landmarks", 48),
    (None, FaceCrop(method="pad", longest_side=100), "none", 160),
    (None, FaceCrop(method="align", longest_side=112), "landmarks", 100),
    (None, FaceCrop(method="align", longest_side=40), "none", 40),
)


@pytest.mark.browser
def test_faces_are_framed_as_in_python(page, chromium, serve):
    image = np.ascontiguousarray(read_image(EXAMPLES / "4_group.jpg")[:, :400])
    height, width = image.shape[:2]
    pixels = base64.b64encode(image.tobytes()).decode()
    face = Face(clip(np.array(BOX), width, height), "mtcnn", LANDMARKS)
    browser = chromium()
    browser.open(serve(page))
    for margin, crop, mask, size in FRAMINGS:
        changes = {"mtcnn": (0.01, 0.091, 0.855)} if margin is not None else {}
        framing = Framing(size, mask, margin, crop, "mtcnn", changes)
        framed, whole = browser.driver.execute_async_script(
            FRAME, framing.to_json(), pixels, width, height, BOX, LANDMARKS
        )
        expected = framing.frame(image, framing.adapted(face, width, height))
        for actual, wanted in ((framed, expected), (whole, framing.frame_whole(image))):
            difference = np.abs(np.array(actual) - wanted.reshape(-1))
            # OpenCV interpolates with fewer bits; averages are the same to the bit.
            assert difference.max() <= 2, (margin, crop.method)
            assert difference.mean() <= 0.3, (margin, crop.method)


@pytest.mark.slow
def test_the_folder_is_whole_and_says_what_it_is(small_page, run, model):
    described = json.loads((small_page / web.MODEL).read_text())
    assert described["labels"] == list(run.labels)
    assert described["min_share"] == 0.1
    assert described["faces"] == json.loads(json.dumps(model.framing.to_json()))
    assert (small_page / web.CARD).read_text().startswith("# Model card: small\n")
    names = {path.relative_to(small_page).as_posix() for path in small_page.rglob("*.*")}
    assert {"index.html", "model.onnx", "mtcnn/onet.onnx", f"ort/{ort_web.FILES[0]}"} <= names
    assert not any("run_exported" in name for name in names)


def test_haar_runs_say_that_the_page_uses_mtcnn(run, capsys, monkeypatch):
    haar = Framing(32, "none", 0.05, FaceCrop(detector="haar_frontal"), "haar_frontal", {})
    for module in (locate, card):
        monkeypatch.setattr(module, "framing_of", lambda run: haar)
    cli.note_detector(run, "web")
    cli.note_detector(run, "onnx")
    assert capsys.readouterr().out == (
        "note: the run's face detector needs OpenCV; the page finds faces with mtcnn\n"
    )


def package(path: Path, names=ort_web.FILES) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"abc"))
    return path


def test_ort_is_read_from_a_package_or_its_folder(tmp_path):
    expected = dict.fromkeys(ort_web.FILES, b"abc")
    assert ort_web.read(package(tmp_path / "ort.tgz")) == expected
    (tmp_path / "ort" / "dist").mkdir(parents=True)
    for name in ort_web.FILES:
        (tmp_path / "ort" / "dist" / name).write_bytes(b"abc")
    assert ort_web.read(tmp_path / "ort") == expected


@pytest.mark.parametrize("content", [None, "text", "other package"])
def test_another_file_for_ort_is_one_message(tmp_path, content):
    path = tmp_path / "ort.tgz"
    if content == "text":
        path.write_text("no archive")
    elif content:
        package(path, ["other.js"])
    with pytest.raises(UserError, match=r"expected the npm package onnxruntime-web, .* npm pack"):
        ort_web.read(path)


@pytest.mark.parametrize(
    ("npm", "message"),
    [
        (None, "expected npm, .* found none"),
        ("exit 1", "found: exit code 1"),
        ("echo no network >&2", "found: no network"),
        ("echo x > onnxruntime-web.tgz", "with the sha512 q0y.*, found "),
    ],
)
def test_what_npm_cannot_fetch_is_one_message(tmp_path, monkeypatch, npm, message):
    monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    if npm:
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{npm}\n")
        (tmp_path / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=message):
        ort_web.read(None)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=onnx", "--out=x.onnx", "--ort=x.tgz"], "expected --ort with --format web only"),
        (["--format=web", "--out={file}"], "expected a folder for --out"),
        (["--format=web", "--out={folder}"], "found .* with other files"),
    ],
)
def test_wrong_flags_are_one_message(tmp_path, run, flags, message, monkeypatch):
    from fer_jax.export import onnx_file

    monkeypatch.setattr(onnx_file, "check_installed", lambda: None)
    (tmp_path / "file").write_text("mine")
    places = {"file": tmp_path / "file", "folder": tmp_path}
    with pytest.raises(UserError, match=message):
        cli.main([str(run.folder), *(flag.format(**places) for flag in flags)])


def test_a_page_may_replace_an_earlier_one(tmp_path):
    (tmp_path / web.MODEL).write_text("{}")
    web.check_folder(tmp_path)
    web.check_folder(tmp_path / "new")
