"""Frames per second of a live camera: `fer-jax predict URL --show`, and the exported web page.

    python -m benchmarks.live [--run runs/demo] [--seconds 15] [--rounds 3]

The camera is a still portrait in 640 x 480 pixels, 30 frames per second: for `--show` a motion
JPEG stream over HTTP, for the page Chromium's fake webcam. Needs Debian's chromium and
chromium-driver, and what `fer-jax export --format web` needs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_jax.faces.decode import read_image
from tests import chromium

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "fer_jax/serve/examples/2_surprise.jpg"
RATE = 30


def portrait() -> bytes:
    """Returns the JPEG of one frame."""
    frame = np.full((480, 640, 3), 160, np.uint8)
    frame[80:400, 200:520] = read_image(PORTRAIT)[..., ::-1]
    return cv2.imencode(".jpg", frame)[1].tobytes()


class Camera(http.server.BaseHTTPRequestHandler):
    """A network camera: the same frame again and again."""

    def do_GET(self) -> None:
        """Sends frames until the client leaves."""
        jpeg, due = portrait(), time.monotonic()
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            while True:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n")
                due += 1 / RATE
                time.sleep(max(0, due - time.monotonic()))

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Files(http.server.SimpleHTTPRequestHandler):
    """A static file host."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def served(handler: object) -> Iterator[str]:
    """Serves on this machine; yields the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def command(*arguments: str) -> str:
    """Runs a verb of fer-jax; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "fer_jax", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def show(run: tuple[str, ...], seconds: float) -> tuple[float, float]:
    """Returns frames/s of the live view and its median delay in ms."""
    with served(Camera) as address:
        printed = command("predict", *run, f"{address}live.mjpg", "--show", f"--seconds={seconds}")
    found = re.search(r"delay (\d+) ms .*, ([\d.]+) frames/s", printed)
    if found is None:
        raise SystemExit(f"no delay was printed: {printed}")
    return float(found[2]), float(found[1])


def page(folder: Path, clip: Path, seconds: float) -> float:
    """Returns frames/s that the exported page shows after some seconds."""
    flags = (
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    )  # fmt: skip
    files = functools.partial(Files, directory=str(folder))
    with served(files) as address, chromium.open_window(*flags) as browser:
        browser.open(address)
        browser.wait_for("#camera:not([disabled])").click()
        browser.wait_for(".face")
        time.sleep(seconds)
        status = browser.driver.find_element("id", "status").text
    found = re.search(r"([\d.]+) frames/s", status)
    if found is None:
        raise SystemExit(f"the page shows no rate: {status}")
    return float(found[1])


def main() -> None:
    """Prints a table of both."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--run", help="run directory (default: the shipped model)")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    run = (arguments.run,) if arguments.run else ()
    if not shutil.which("chromium"):
        raise SystemExit("expected chromium, found none: apt install chromium chromium-driver")
    print(f"load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        web, clip = Path(folder, "web"), Path(folder, "clip.mjpeg")
        clip.write_bytes(5 * portrait())
        command("export", *run, "--format=web", "--out", str(web))
        rounds = [
            (*show(run, arguments.seconds), page(web, clip, arguments.seconds))
            for _ in range(arguments.rounds)
        ]
    shown, delays, pages = map(list, zip(*rounds, strict=True))
    print("| view | frames/s (range) | median delay, ms |\n|---|---|---|")
    for name, rates, delay in (
        ("predict --show", shown, f"{statistics.median(delays):.0f}"),
        ("web page", pages, "not measured"),
    ):
        middle = statistics.median(rates)
        print(f"| {name} | {middle:.1f} ({min(rates):.1f} to {max(rates):.1f}) | {delay} |")


if __name__ == "__main__":
    main()
