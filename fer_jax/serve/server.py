"""Serves an ASGI application at an address of this machine, from a background thread.

Knows neither the page nor REST.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from fer_jax.errors import UserError
from fer_jax.serve.guard import App

PORTS = range(7860, 7960)
"""Tried in order where no port is asked for."""

_FINISH_SECONDS = 5  # for requests in work when the server ends; the page's event streams stay open


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Makes a folder that only this user can read, for all that is uploaded; deletes it.

    Enter it before gradio is imported and a page is made.
    """
    earlier = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="fer_jax_serve_", ignore_cleanup_errors=True) as name:
        os.environ["GRADIO_TEMP_DIR"] = name
        tempfile.tempdir = name  # for uploads that are being received
        try:
            yield Path(name)
        finally:
            tempfile.tempdir = earlier


def listen(host: str, port: int | None) -> socket.socket:
    """Opens the port; connections wait until `serving` answers them.

    Args:
      host: address to listen on.
      port: to listen on; None for the first free one of `PORTS`.

    Raises:
      UserError: the port is in use or reserved, or the host is no address of this machine.
    """
    for number in (port,) if port else PORTS:
        try:
            return _listen(host, number)
        except (OSError, UnicodeError) as error:
            code = getattr(error, "errno", None)
            if code == errno.EADDRINUSE and number != PORTS[-1] and not port:
                continue
            if code in (errno.EADDRINUSE, errno.EACCES):
                why = "in use" if code == errno.EADDRINUSE else "reserved for the administrator"
                raise UserError(
                    f"expected a free port, found {host}:{number} {why}; choose another --port, "
                    "or leave it out"
                ) from None
            raise UserError(
                f"expected --host to be an address of this machine, found {host}; use 127.0.0.1 "
                "for this machine only, or 0.0.0.0 for all of its addresses"
            ) from None
    raise AssertionError("PORTS is not empty")


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def url(host: str, listener: socket.socket) -> str:
    """Returns the address to open in a browser."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/"


@contextlib.contextmanager
def serving(app: App, listener: socket.socket) -> Iterator[None]:
    """Answers requests inside the context; at its end, finishes those in work."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=_FINISH_SECONDS,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server has ended at its start")
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(2 * _FINISH_SECONDS)
