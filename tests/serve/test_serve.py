"""The page: its content for any upload, and its behavior in a browser."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from fer_jax.cli import serve
from fer_jax.errors import UserError
from fer_jax.serve import guard, page, response, server
from tests.serve.process import ask, free_port, start
from tests.small_runs import write_image


def test_every_face_is_listed_from_left_to_right(model, predictor, media):
    result = response.respond(predictor, str(media / "group.jpg"), "all", explain=True)
    assert result.details.count("<section") == 3
    assert re.findall(r"<h3>Face (\d)", result.details) == ["1", "2", "3"]
    (prediction,) = model.predict(media / "group.jpg", faces="all")
    in_order = sorted(prediction.faces, key=lambda face: face.box[0])
    assert re.findall(r"<h3>Face \d: (\w+)", result.details) == [face.label for face in in_order]
    assert result.image.shape[2] == 3


def test_bars_are_as_long_as_the_probabilities(model, predictor, media):
    (prediction,) = model.predict(media / "anna.png")
    result = response.respond(predictor, str(media / "anna.png"), "largest", explain=False)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", result.details)]
    expected = [100 * value for value in prediction.faces[0].probabilities.values()]
    assert widths == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (None, "Upload a photo"),
        ("notes.txt", "cannot be used as an image: not a JPEG"),
        ("half.jpg", "cannot be used as an image: truncated JPEG"),
        ("gone.jpg", "cannot be used as an image: no such file"),
        ("wall.png", "No face was found, so the whole image was classified"),
    ],
)
def test_every_upload_gets_a_response(predictor, media, file, text):
    result = response.respond(predictor, file and str(media / file), "all", explain=False)
    assert text in result.details


def test_a_large_image_is_shrunk_before_it_is_sent_back(predictor, tmp_path):
    path = write_image(tmp_path / "wide.png", np.zeros((200, 4000, 3), np.uint8))
    result = response.respond(predictor, str(path), "all", explain=False)
    assert max(result.image.shape) == 1600


def test_class_names_are_escaped():
    assert "&lt;b&gt;" in response.message("<b>")


def test_the_examples_exist():
    assert len(list(page.EXAMPLES.glob("*.jpg"))) == 4


def test_the_error_without_the_extra_has_the_install_command(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'fer-jax\[serve\]'"):
        serve.main([str(run.folder)])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--port=0", "expected --port from 1 to 65535, found 0"),
        ("--max_queue=0", "expected --max_queue from 1 to 10000, found 0"),
        ("--max_wait=nan", "expected --max_wait from 0 to 1000, found nan"),
    ],
)
def test_a_number_out_of_range_is_a_user_error(run, flag, message):
    with pytest.raises(UserError, match=message):
        serve.main([str(run.folder), flag])


@pytest.fixture(scope="module")
def served(run):
    """A served page: its address and its process."""
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
    """Uploads a file and returns the text of the response once it contains `expected`."""
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
def test_an_uploaded_photo_shows_its_faces_without_errors(window, model, media, served):
    text = upload(window, media / "group.jpg", "Face 3")
    (prediction,) = model.predict(media / "group.jpg", faces="all")
    for face in prediction.faces:
        assert face.label in text
        assert f"{face.confidence:.1%}" in text
    assert window.wait_for("#shown img").get_attribute("src")
    assert window.errors() == []


@pytest.mark.browser
def test_heat_maps_and_the_largest_face_can_be_selected(window, media):
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
def test_no_request_goes_to_another_host(window, served):
    assert window.foreign_requests(served[0].rstrip("/")) == []


@pytest.mark.browser
def test_the_page_fits_a_narrow_window(window, media):
    upload(window, media / "anna.png", "Face 1")
    for width in (1280, 500):
        window.resize(width, 900)
        assert not window.overflows()


@pytest.mark.browser
def test_an_unreadable_upload_shows_a_message_and_the_next_one_works(window, media, tmp_path):
    fake = tmp_path / "fake.jpg"
    fake.write_text("hello")
    upload(window, fake, "cannot be used as an image")
    upload(window, media / "anna.png", "Face 1")


@pytest.mark.browser
def test_the_server_listens_on_localhost_only_and_refuses_a_large_upload(served, tmp_path):
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
def test_the_server_refuses_other_sites_and_deletes_its_folder(run, tmp_path):
    """A name that resolves here, a page of another site, and what lies on disk."""
    port = free_port()
    process = start(run, port, TMPDIR=str(tmp_path))
    assert "is served at" in process.stdout.readline()
    (folder,) = tmp_path.glob("fer_jax_serve_*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert ask(port, "GET", {"Host": f"127.0.0.1:{port}"}) == 200
    assert ask(port, "GET", {"Host": f"rebound.example.org:{port}"}) == 403
    assert ask(port, "POST", {"Origin": "http://evil.example.org", "Content-Length": "3"}) == 403
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert not folder.exists()


OURS = {"host": "127.0.0.1:7860", "content-length": "100"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"host": "localhost:7860"}, 200),
        ("GET", {"host": "[::1]:7860"}, 200),
        ("GET", {"host": "10.1.2.3"}, 200),
        ("GET", {"host": "Served.Example.org"}, 200),
        ("GET", {"host": "proxy.example.org:443"}, 200),
        ("GET", {"host": "rebound.example.org"}, 403),
        ("GET", {"host": "127.0.0.1.example.org"}, 403),
        ("GET", {"host": "[::1"}, 403),
        ("GET", {}, 403),
        ("POST", OURS, 200),
        ("POST", OURS | {"origin": "http://127.0.0.1:7860"}, 200),
        ("POST", OURS | {"origin": "http://127.0.0.1:8000"}, 403),
        ("POST", OURS | {"origin": "https://example.org"}, 403),
        ("POST", OURS | {"origin": "null"}, 403),
        ("GET", {"host": "localhost", "origin": "https://example.org"}, 403),
        ("POST", {"host": "localhost"}, 411),
        ("POST", OURS | {"transfer-encoding": "chunked"}, 411),
        ("POST", OURS | {"content-length": "-1"}, 411),
        ("POST", OURS | {"content-length": "11000001"}, 413),
        ("POST", OURS | {"content-length": "5001"}, 507),
    ],
)
def test_the_guard_judges_requests(tmp_path, monkeypatch, method, headers, status):
    monkeypatch.setattr(guard, "MAX_STORED", 10_000)
    (tmp_path / "photo").mkdir()
    (tmp_path / "photo" / "a.jpg").write_bytes(bytes(5_000))
    judge = guard.Guard(None, "served.example.org", tmp_path, ["Proxy.example.org"]).judge
    raw = [(key.title().encode(), value.encode()) for key, value in headers.items()]
    assert judge(method, raw)[0] == status


def test_a_refused_request_does_not_reach_the_page(tmp_path):
    sent = []

    async def send(message):
        sent.append(message)

    async def page(scope, receive, send):
        await send({"type": "page"})

    guarded = guard.Guard(page, "127.0.0.1", tmp_path)
    for host in (b"localhost", b"example.org"):
        scope = {"type": "http", "method": "GET", "headers": [(b"host", host)]}
        asyncio.run(guarded(scope, None, send))
    assert [message.get("status", message["type"]) for message in sent] == [
        "page", 403, "http.response.body",
    ]  # fmt: skip


def test_the_folder_of_a_server_is_private_and_goes(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    with server.private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder) == tempfile.gettempdir()
        (folder / "sub").mkdir()
        (folder / "sub" / "photo.jpg").write_bytes(b"x")
    assert not folder.exists()
    assert tempfile.gettempdir() != str(folder)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 70, "é" * 300])
def test_an_address_of_another_machine_is_one_message(run, host):
    with pytest.raises(UserError, match="expected --host to be an address of this machine"):
        serve.main([str(run.folder), "--host", host])


def test_a_port_in_use_is_one_message(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} in use; choose another --port"):
            serve.main([str(run.folder), f"--port={port}"])


def test_a_photo_can_be_one_face_already(predictor, media):
    result = response.respond(predictor, str(media / "group.jpg"), "whole", explain=False)
    assert result.details.count("<section") == 1
    assert "No face was found" not in result.details
