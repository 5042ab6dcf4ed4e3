"""The examples of docs/deployment.md, run against a server, and the page of /docs in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer_jax.serve import guard, schema

DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
SECTION = DOCUMENTATION[DOCUMENTATION.index("## REST") : DOCUMENTATION.index("## A container")]


def example(language: str) -> str:
    """Returns the code block of a language; "" is the shell's."""
    return re.search(rf"^```{language}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture
def folder(tmp_path, media):
    """A folder with the photo of the examples."""
    shutil.copy(media / "album" / "anna.jpg", tmp_path / "photo.jpg")
    return tmp_path


def run(folder: Path, port: int, *command: str) -> str:
    command = [word.replace("127.0.0.1:7860", f"127.0.0.1:{port}") for word in command]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_example(port, folder):
    (line,) = (line for line in example("").splitlines() if line.startswith("curl"))
    answer = schema.Predictions.model_validate_json(run(folder, port, "sh", "-c", line))
    assert [(photo.name, len(photo.faces)) for photo in answer.photos] == [("photo.jpg", 1)]


def test_the_python_example(port, folder):
    line = run(folder, port, sys.executable, "-c", example("python"))
    assert re.fullmatch(r"photo\.jpg \[\d+, \d+, \d+, \d+\] \w+ 0\.\d+\n", line)


def test_the_json_example_is_of_the_schema():
    answer = schema.Predictions.model_validate_json(example("json"))
    (face,) = answer.photos[0].faces
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=0.005)
    assert face.probabilities[face.label] == face.confidence


def test_the_table_has_every_status():
    rows = re.findall(r"^\| ([\d, ]+) \| (`.*?`) \|", SECTION, re.MULTILINE)
    listed = {
        int(status): code.strip("`")
        for statuses, codes in rows
        for status, code in zip(statuses.split(", "), codes.split(", "), strict=True)
    }
    assert listed == dict(guard.CODES)


@pytest.fixture(scope="module")
def window(port, chromium):
    """The page of /docs in a browser."""
    browser = chromium()
    browser.open(f"http://127.0.0.1:{port}/docs")
    return browser


@pytest.mark.browser
def test_the_form_of_the_page_shows_the_answer(window, media, port):
    assert f"http://127.0.0.1:{port}/predict" in window.wait_for("#answer").text
    window.wait_for("#photo").send_keys(str(media / "group.jpg"))
    window.wait_for("#try button").click()
    deadline = time.monotonic() + 60
    while not (text := window.wait_for("#answer").text).startswith("200"):
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
    assert text.count('"label"') == 3
    for width in (1280, 420):
        window.resize(width, 900)
        assert not window.overflows()
    assert window.foreign_requests(f"http://127.0.0.1:{port}/") == []
    assert window.errors() == []


@pytest.mark.browser
def test_the_javascript_example(window, media):
    window.wait_for("#photo").send_keys(str(media / "anna.png"))
    script = f"""
      const done = arguments[0], said = [], console = {{ log: (...words) => said.push(words) }};
      const file = [...document.getElementById("photo").files].pop();
      (async () => {{ {example("javascript")} }})().then(() => done(said), (e) => done(String(e)));
    """
    ((label, confidence, box),) = window.driver.execute_async_script(script)
    assert label
    assert 0 < confidence <= 1
    assert len(box) == 4
