"""Makes the images of prediction and of the web page in docs/, from a trained demo run.

    make setup-check && python tools/readme_images.py runs/demo

Needs Chromium (apt install chromium chromium-driver). The other images in docs/ are copies of the
demo's report.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2

from fer_jax.cli import predict
from fer_jax.serve import page
from tests.chromium import open_window

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 960  # pixels, the width at which a README is shown


def write_predicted(run: Path) -> None:
    """Writes an annotated image of `fer-jax predict RUN fer_jax/serve/examples --explain`."""
    with tempfile.TemporaryDirectory() as out:
        predict.main([str(run), str(page.EXAMPLES), "--out", out, "--explain"])
        annotated = cv2.imread(str(Path(out) / "annotated" / "4_group.jpg"))
        height = round(annotated.shape[0] * WIDTH / annotated.shape[1])
        small = cv2.resize(annotated, (WIDTH, height), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(DOCS / "predicted.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 88])


def write_page(run: Path) -> None:
    """Writes a screenshot of the page of `fer-jax serve RUN` with the faces of an example."""
    command = [sys.executable, "-m", "fer_jax", "serve", str(run)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = re.search(r"http://\S+", server.stdout.readline())
    assert address is not None
    with open_window() as browser, contextlib.ExitStack() as stack:
        stack.callback(server.wait)
        stack.callback(server.terminate)
        browser.open(address[0])
        upload = browser.wait_for("#picture input[type=file]")
        upload.send_keys(str(page.EXAMPLES / "4_group.jpg"))
        browser.wait_for("#listed .fer-face")
        before = browser.wait_for("#listed img").get_attribute("src")
        browser.wait_for("#why input").click()
        while browser.wait_for("#listed img").get_attribute("src") == before:
            time.sleep(0.1)
        time.sleep(1)  # the new image fades in
        browser.resize(1180, 1270)
        browser.driver.save_screenshot(str(DOCS / "page.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="run directory of the demo")
    folder = parser.parse_args().run
    write_predicted(folder)
    write_page(folder)
