"""Refuses requests that a browser's user did not mean to send, or that are too large.

A page of another site can make a browser send requests to this server, under the site's own name
(DNS rebinding) or from its own origin. Both show in the headers Host and Origin. The guard is an
ASGI middleware (https://asgi.readthedocs.io) and knows nothing of gradio.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_REQUEST = 11_000_000
"""Bytes of one request: one upload of 10 MB."""

MAX_STORED = 300_000_000
"""Bytes of uploads and annotated images that the server keeps at a time: in its folder, and in
memory while a request is answered."""

CODES: Mapping[int, str] = {
    400: "malformed", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    408: "timeout", 411: "length_required", 413: "too_large", 415: "unsupported_type",
    422: "invalid", 500: "internal", 503: "busy", 507: "storage_full",
}  # fmt: skip
"""The word for each status in the JSON of a refusal."""

_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")
_MAX_DRAINED, _MAX_DRAIN_SECONDS = 64_000_000, 10.0  # bytes and seconds of a refused body


class Guard:
    """Passes on the requests that are allowed and answers the others with a reason.

    Args:
      app: the guarded application.
      host: the address that the server listens on.
      folder: where the application stores files.
      names: further names of this server, such as a reverse proxy's.
    """

    def __init__(self, app: App, host: str, folder: Path, names: Collection[str] = ()) -> None:
        self._app, self._folder, self._in_memory = app, folder, 0
        name = socket.gethostname().lower()
        more = (one.lower() for one in names)
        self._names = {"localhost", host.lower(), name, f"{name}.local", *more}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] == "http":
            status, reason = self.judge(scope["method"], scope["headers"])
            if status != 200:
                if scope["method"] not in _WITHOUT_BODY:
                    await _drain(receive)
                await _answer(send, status, reason)
                return
            length = 0 if scope["method"] in _WITHOUT_BODY else _length(scope["headers"])
            self._in_memory += length
            try:
                await self._app(scope, receive, send)
            finally:
                self._in_memory -= length
            return
        await self._app(scope, receive, send)

    def judge(self, method: str, raw_headers: list[tuple[bytes, bytes]]) -> tuple[int, str]:
        """Returns 200, or the status and the reason of a refusal."""
        headers = {key.lower().decode("latin-1"): value.decode("latin-1")
                   for key, value in raw_headers}  # fmt: skip
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 403, "this server is not called by that name; use its address"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "the request comes from a page of another site"
        if method in _WITHOUT_BODY:
            return 200, ""
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not length.isdecimal():
            return 411, "the request does not say how long it is"
        if int(length) > MAX_REQUEST:
            return 413, f"the request has more than {MAX_REQUEST // 1_000_000} MB"
        if int(length) + self._in_memory + self._stored() > MAX_STORED:
            return 507, "the server holds too many uploads; try again later"
        return 200, ""

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server; an address cannot be rebound."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _stored(self) -> int:
        total = 0
        for path in self._folder.rglob("*"):
            try:
                total += path.stat().st_size
            except OSError:  # deleted meanwhile
                continue
        return total


def _length(raw_headers: list[tuple[bytes, bytes]]) -> int:
    """Bytes of a body that `Guard.judge` allowed."""
    return next(int(value) for key, value in raw_headers if key.lower() == b"content-length")


async def _drain(receive: Receive) -> None:
    """Reads a body to its end: clients that are still sending see no answer."""
    drained, more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_MAX_DRAIN_SECONDS):
            while more and drained < _MAX_DRAINED:
                message = await receive()
                drained += len(message.get("body", b""))
                more = message.get("more_body", False)


async def _answer(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": CODES[status], "detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
