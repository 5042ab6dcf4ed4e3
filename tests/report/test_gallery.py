"""The gallery of suspects: images on the page, names as text, decisions saved as relabel.csv."""

from __future__ import annotations

import base64
import time

import cv2
import numpy as np
import pytest

from fer_jax.report.gallery import Suspect, thumbnail, write_gallery
from tfds_builders import relabel

HOSTILE = "</script><img src=x onerror=alert(1)>"
SUSPECTS = [
    Suspect("=1+1", "test", "fear", "fear", "surprise", (0.1, 0.9)),
    Suspect(HOSTILE, "test", "anger", "fear", "surprise", (0.2, 0.8), "anger"),
    Suspect('a, "b"', "fold 2", "fear", "fear", "anger", (0.3, 0.6)),
    Suspect("not shown", "test", "fear", "fear", "anger", (0.4, 0.5)),
]


def write(folder):
    images = [np.full((130, 100, 3), (200, 40, 40), np.uint8)] * 3
    joint = np.array([[90.0, 8.0, 2.0], [3.0, 7.0, 0.0], [0.0, 0.0, 10.0]])
    return write_gallery(
        folder / "index.html", "Labels", "all folds", ("STAND-IN: faces",),
        ("fear", "surprise", "anger"), joint, 120, SUSPECTS, images,
        [("decided", "fear", "", "drop")],
    )  # fmt: skip


def test_a_thumbnail_is_a_small_jpeg_in_the_images_colors():
    encoded = thumbnail(np.full((400, 200, 3), (200, 40, 40), np.uint8)).partition(",")[2]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (112, 56, 3)
    assert np.abs(pixels[50, 20].astype(int) - (40, 40, 200)).max() < 6  # OpenCV's order: BGR


def test_the_page_has_the_estimates_and_escapes_names(tmp_path):
    text = write(tmp_path).read_text()
    assert HOSTILE not in text
    assert text.count("data:image/jpeg") == 3
    assert "4 labels are under suspicion" in text
    assert "<td>10.0%</td>" in text  # of fear
    assert "STAND-IN: faces" in text


@pytest.mark.browser
def test_decisions_are_made_by_click_and_key_and_saved(tmp_path, chromium):
    page, browser = write(tmp_path), chromium()
    for width in (1280, 420):
        browser.resize(width, 900)
        browser.open(page.as_uri())
        assert not browser.overflows()
    cards = browser.driver.find_elements("css selector", ".card")
    assert [card.find_element("css selector", "p").text for card in cards] == [
        "=1+1 · test", f"{HOSTILE} · test", 'a, "b" · fold 2',
    ]  # fmt: skip
    cards[0].find_element("css selector", "button[value=surprise]").click()
    cards[2].send_keys("d")
    for _ in range(30):  # decisions survive; another process of the browser stores them
        browser.open(page.as_uri())
        if len(browser.driver.find_elements("css selector", ".card.decided")) == 3:
            break
        time.sleep(0.5)
    assert len(browser.driver.find_elements("css selector", ".card.decided")) == 3
    saved = browser.driver.execute_async_script(
        "const done = arguments[0]; URL.createObjectURL = (blob) => { blob.text().then(done);"
        " return '#'; }; document.getElementById('save').click();"
    )
    (tmp_path / "relabel.csv").write_text(saved)
    assert {name: (one.given, one.decision) for name, one in relabel.read(
        tmp_path / "relabel.csv").items()} == {
        "=1+1": ("fear", "surprise"), HOSTILE: ("fear", "anger"), 'a, "b"': ("fear", "drop"),
        "not shown": ("fear", ""), "decided": ("fear", "drop"),
    }  # fmt: skip
    assert saved.split("\n")[1] == "'=1+1,fear,surprise,surprise"
    browser.driver.find_element("css selector", "#given option[value=anger]").click()
    assert len(browser.driver.find_elements("css selector", ".card")) == 1
    assert browser.errors() == []
    assert browser.foreign_requests("file://") == []
