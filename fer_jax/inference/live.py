"""A camera's annotated view on a page of this machine, live, with the measured delay.

OpenCV's headless build opens no windows, and servers have no screen; a page needs neither. It shows
a stream of JPEG images (multipart/x-mixed-replace). Only this machine is answered.
"""

from __future__ import annotations

import collections
import json
import os
import sys
import threading
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import cv2
import numpy as np

HOST = "127.0.0.1"

_JPEG_QUALITY = 85
_MEASURED = 2000  # delays of the last frames that are remembered
_BOUNDARY = "frame"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>fer_jax: live view</title>
<link rel="icon" href="data:,">
<style>
body { margin: 0; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; text-align: center; }
img { max-width: 100%; max-height: 85vh; border-radius: .4rem; }
</style></head><body>
<img alt="the camera's view with labeled faces">
<p id="delay">&nbsp;</p>
<script>
const line = document.getElementById("delay");
onload = () => setTimeout(() => { document.querySelector("img").src = "/stream"; });
setInterval(async () => {
  try { line.textContent = (await (await fetch("/delay")).json()).text; }
  catch { line.textContent = "the view has ended"; }
}, 1000);
</script></body></html>
"""


class LiveView:
    """Serves the newest image, as a context manager.

    Attributes:
      address: of the page.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jpeg, self._number, self._ended = b"", 0, False
        self._delays: collections.deque[float] = collections.deque(maxlen=_MEASURED)
        self._times: collections.deque[float] = collections.deque(maxlen=_MEASURED)
        view = self

        class Handler(_Handler):
            """Answers for this view."""

            def __init__(self, *arguments: Any) -> None:
                self.view = view
                super().__init__(*arguments)

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://{HOST}:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def open_browser(self) -> None:
        """Opens the page where there is a screen; a browser of a terminal would take it over."""
        has_screen = sys.platform in ("darwin", "win32") or any(
            os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
        )
        if has_screen:
            webbrowser.open(self.address)

    def show(self, image: np.ndarray, captured: float) -> None:
        """Shows an image.

        Args:
          image: uint8[H, W, 3] RGB.
          captured: `time.monotonic()` when the camera delivered it.
        """
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
        now = time.monotonic()
        with self._changed:
            self._jpeg, self._number = jpeg, self._number + 1
            self._delays.append(now - captured)
            self._times.append(now)
            self._changed.notify_all()

    def next_jpeg(self, number: int) -> tuple[bytes, int] | None:
        """Waits for an image other than `number`; returns it with its number, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._number != number)
            return None if self._ended else (self._jpeg, self._number)

    def describe_delay(self) -> str:
        """Returns the delay from camera to page, and the rate, of the last frames."""
        with self._changed:
            delays, times = np.array(self._delays), list(self._times)
        if len(times) < 2:
            return "no delay was measured"
        rate = (len(times) - 1) / max(times[-1] - times[0], 1e-9)
        median, high = 1000 * np.quantile(delays, [0.5, 0.95])
        return f"delay {median:.0f} ms (95 %: {high:.0f} ms), {rate:.1f} frames/s"


class _Handler(BaseHTTPRequestHandler):
    """Answers the page's requests."""

    view: LiveView

    def do_GET(self) -> None:
        """Answers a request."""
        own = self.view.address.removeprefix("http://").rstrip("/")
        if self.headers.get("Host") not in (own, own.replace(HOST, "localhost")):
            # A page of another site can call this server by a name of its own (DNS rebinding).
            self.send_error(403, "this server is not called by that name; use its address")
        elif self.path == "/":
            self._answer("text/html; charset=utf-8", _PAGE.encode())
        elif self.path == "/delay":
            text = json.dumps({"text": self.view.describe_delay()})
            self._answer("application/json", text.encode())
        elif self.path == "/stream":
            self._stream()
        else:
            self.send_error(404)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - http.server's name
        """Prints nothing."""

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        number = 0
        try:
            while following := self.view.next_jpeg(number):
                jpeg, number = following
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                self.wfile.write(f"{head}Content-Length: {len(jpeg)}\r\n\r\n".encode())
                self.wfile.write(jpeg + b"\r\n")
        except OSError:  # the page was closed
            return
