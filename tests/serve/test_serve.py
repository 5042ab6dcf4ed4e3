"""The page: what it answers to whatever is uploaded, and how it works in a browser."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fer_jax.cli import serve
from fer_jax.errors import UserError
from fer_jax.serve import answers, page
from tests.small_runs import write_picture

ROOT = Path(__file__).parents[2]


def test_every_face_is_listed_from_left_to_right(model, media):
    found = answers.answer(model, str(media / "group.jpg"), "all", explain=True)
    assert found.listing.count("<section") == 3
    assert re.findall(r"<h3>Face (\d)", found.listing) == ["1", "2", "3"]
    (picture,) = model.predict(media / "group.jpg", choice="all")
    in_order = sorted(picture.faces, key=lambda face: face.box[0])
    assert re.findall(r"<h3>Face \d: (\w+)", found.listing) == [face.label for face in in_order]
    assert found.picture.shape[2] == 3


def test_bars_are_as_long_as_the_probabilities(model, media):
    (picture,) = model.predict(media / "anna.png")
    found = answers.answer(model, str(media / "anna.png"), "largest", explain=False)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", found.listing)]
    wanted = [100 * value for value in picture.faces[0].probabilities.values()]
    assert widths == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (None, "Upload a picture"),
        ("notes.txt", "not a picture that can be used: not a picture that can be decoded"),
        ("half.jpg", "not a picture that can be used: truncated JPEG"),
        ("gone.jpg", "not a picture that can be used: no such file"),
        ("wall.png", "No face was found: the whole picture was taken for one"),
    ],
)
def test_whatever_is_uploaded_gets_an_answer(model, media, file, said):
    found = answers.answer(model, file and str(media / file), "all", explain=False)
    assert said in found.listing


def test_a_large_picture_is_made_smaller_before_it_is_sent_back(model, tmp_path):
    path = write_picture(tmp_path / "wide.png", np.zeros((200, 4000, 3), np.uint8))
    found = answers.answer(model, str(path), "all", explain=False)
    assert max(found.picture.shape) == 1600


def test_names_of_classes_are_text(model):
    assert "&lt;b&gt;" in answers.message("<b>")


def test_examples_are_there():
    assert len(list(page.EXAMPLES.glob("*.jpg"))) == 4


def test_without_the_extra_the_command_that_installs_it_is_told(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'fer-jax\[serve\]'"):
        serve.main([str(run.folder)])


def test_a_port_that_is_none_is_told(run):
    with pytest.raises(UserError, match="expected --port from 1 to 65535, found 0"):
        serve.main([str(run.folder), "--port=0"])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(run, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fer_jax.serve", run.folder, "--port", port]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        list(map(str, command)), env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def served(run):
    """A page in a process of its own: its address and the process."""
    process = start(run, free_port())
    try:
        line = process.stdout.readline()
        assert "is served at http://127.0.0.1:" in line, process.communicate()[1]
        yield re.search(r"http://\S+", line).group(), process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def window(served, chromium):
    """The page in a browser."""
    browser = chromium()
    browser.open(served[0])
    browser.wait_for("#picture input[type=file]")
    return browser


def upload(window, path: Path, expected: str) -> str:
    """Uploads a file; the text of the answer, once it has `expected` in it."""
    for button in window.driver.find_elements("css selector", "#picture button[aria-label=Clear]"):
        button.click()
    window.wait_for("#picture input[type=file]").send_keys(str(path))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        text = window.wait_for("#listed").text
        if expected in text:
            return text
        time.sleep(0.1)
    pytest.fail(f"expected {expected!r} on the page, found {text!r}")


@pytest.mark.browser
def test_an_uploaded_picture_is_answered_without_errors(window, model, media, served):
    text = upload(window, media / "group.jpg", "Face 3")
    (picture,) = model.predict(media / "group.jpg", choice="all")
    for face in picture.faces:
        assert face.label in text
        assert f"{face.confidence:.1%}" in text
    assert window.wait_for("#shown img").get_attribute("src")
    assert window.errors() == []


@pytest.mark.browser
def test_the_maps_and_the_largest_face_can_be_asked_for(window, media):
    upload(window, media / "group.jpg", "Face 3")
    before = window.wait_for("#listed img").get_attribute("src")
    window.wait_for("#why input").click()
    deadline = time.monotonic() + 60
    while window.wait_for("#listed img").get_attribute("src") == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    window.wait_for("#every input").click()
    while "Face 2" in window.wait_for("#listed").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    window.wait_for("#every input").click()
    assert window.errors() == []


@pytest.mark.browser
def test_no_other_host_is_asked_for_anything(window, served):
    assert window.foreign_requests(served[0].rstrip("/")) == []


@pytest.mark.browser
def test_it_fits_a_narrow_window(window, media):
    upload(window, media / "anna.png", "Face 1")
    for width in (1280, 500):
        window.resize(width, 900)
        assert not window.overflows()


@pytest.mark.browser
def test_a_file_that_is_no_picture_is_told_and_the_next_one_answered(window, media, tmp_path):
    fake = tmp_path / "fake.jpg"
    fake.write_text("hello")
    upload(window, fake, "not a picture that can be used")
    upload(window, media / "anna.png", "Face 1")


@pytest.mark.browser
def test_it_listens_at_this_machine_alone_and_refuses_a_large_upload(served, tmp_path):
    import urllib.error
    import urllib.request

    port = int(re.search(r":(\d+)", served[0][5:]).group(1))
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    body += b"0" * 11_000_000 + b"\r\n--x--\r\n"
    request = urllib.request.Request(
        f"{served[0]}gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == 413
    refused.value.close()


@pytest.mark.browser
def test_a_port_that_is_taken_is_told(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start(run, taken.getsockname()[1])
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "choose another --port" in said
    assert "Traceback" not in said
