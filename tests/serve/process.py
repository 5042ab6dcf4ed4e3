"""Starts `fer-jax serve` as a process, and sends requests with the standard library."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# A page that is not wanted must not be imported either: it takes seconds.
_WITHOUT_GRADIO = (
    "import sys; sys.modules['gradio'] = None; from fer_jax.cli import app; app.script()"
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(run, port: int, *flags: str, **variables: str) -> subprocess.Popen[str]:
    program = ["-c", _WITHOUT_GRADIO] if "--no_page" in flags else ["-m", "fer_jax"]
    command = [sys.executable, *program, "serve", run.folder, "--port", port, *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.Popen(
        list(map(str, command)), env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str]) -> str:
    """Returns the address that a started process serves."""
    line = process.stdout.readline()
    assert "is served at http://127.0.0.1:" in line, process.communicate()[1]
    return re.search(r"http://\S+", line).group()


def ask(port: int, method: str, headers: dict[str, str], path: str = "/") -> int:
    """Sends a request, without a body, and returns the status."""
    return send(port, method, path, headers=headers)[0]


def send(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], Any]:
    """Returns status, headers in lower case and the content, of JSON the value."""  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    content, headers = response.read(), {k.lower(): v for k, v in response.getheaders()}
    connection.close()
    is_json = headers.get("content-type") == "application/json"
    return response.status, headers, json.loads(content) if is_json else content


def form(*photos: tuple[str, bytes], field: str = "photo") -> tuple[bytes, dict[str, str]]:
    """Returns a multipart body with files, and its header."""
    parts = [
        f'--xyz\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        .encode() + content + b"\r\n"
        for name, content in photos
    ]  # fmt: skip
    return b"".join(parts) + b"--xyz--\r\n", {"Content-Type": "multipart/form-data; boundary=xyz"}
