"""Serves a page and a REST interface that read the expressions in uploaded photos.

    fer-jax serve
    fer-jax serve runs/demo
    curl -F photo=@photo.jpg http://127.0.0.1:7860/predict

Without a run directory the shipped model predicts. /docs documents the REST interface.

Listens at 127.0.0.1 unless told otherwise and connects to no other host. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax.buckets import path_or_url
from fer_jax.cli.plugins import add_flag as add_plugins
from fer_jax.errors import UserError
from fer_jax.printable import printable

if TYPE_CHECKING:
    from fer_jax.run_dir import Run
    from fer_jax.serve.guard import App

_PACKAGES = ("fastapi", "prometheus_client", "python_multipart", "uvicorn")
_PAGE_PACKAGES = ("gradio",)


def main(arguments: Sequence[str]) -> None:
    """Serves until Ctrl-C.

    Raises:
      UserError: no run, a missing package, a port that is taken, or an address that is not ours.
    """
    options = parse(arguments)
    from fer_jax import run_dir

    run = run_dir.open_run(options.run or run_dir.DEFAULT_RUN)
    if options.run is None:
        print(run_dir.introduce(run), file=sys.stderr)

    with_page = not options.no_page
    _check_packages(_PACKAGES, with_page)
    # Importing gradio and JAX takes seconds; wrong input is reported before.
    from fer_jax.runtime import signals
    from fer_jax.serve import server

    with signals.interrupt_on_terminate() as received:
        try:
            with server.listen(options.host, options.port) as listener:
                _check_packages(_PAGE_PACKAGES if with_page else (), with_page)
                with (
                    server.private_folder() as folder,
                    _application(run, options, folder) as app,
                    server.serving(app, listener),
                ):
                    name, address = printable(run.name), server.url(options.host, listener)
                    print(f"{name} is served at {address}  (Ctrl-C ends it)", flush=True)
                    threading.Event().wait()
        except KeyboardInterrupt:
            if received:
                raise SystemExit(128 + received[0]) from None
            raise


def _check_packages(packages: Sequence[str], with_page: bool) -> None:
    """Raises `UserError` if a package is missing; imports none of them."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            extra = "serve" if with_page else "rest"
            rest = ", or serve REST only with --no_page" if package in _PAGE_PACKAGES else ""
            raise UserError(
                f"expected the package {package}, found none; install it with: "
                f"pip install 'fer-jax[{extra}]'{rest}"
            )


@contextlib.contextmanager
def _application(run: Run, options: argparse.Namespace, folder: Path) -> Iterator[App]:
    """Opens the model and makes the application that serves it.

    Args:
      run: a trained run.
      options: of the command line.
      folder: of the server, for uploads.
    """
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.inference.model import Model
    from fer_jax.runtime import compile_cache
    from fer_jax.serve import guard, rest
    from fer_jax.serve.metrics import Metrics
    from fer_jax.serve.predictor import Predictor

    quiet_orbax()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a damaged form is a status
    compile_cache.enable()
    metrics = Metrics()
    predictor = Predictor(
        Model(run), options.max_wait / 1000, options.max_queue, metrics.observe_batch
    )
    try:
        predictor.compile()
        app = rest.make_app(predictor, metrics, options.faces)
        if options.no_page:
            rest.add_redirect(app)
        else:
            from fer_jax.serve import page

            mounted = page.mount(app, page.make_page(predictor, options.faces))
            rest.add_error_handlers(mounted)
        yield metrics.measured(guard.Guard(app, options.host, folder, options.allow_host))
    finally:
        predictor.close()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax serve", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "run", type=path_or_url, nargs="?",
        help="run directory, such as runs/demo (default: the shipped model)",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1",
        help="address to listen at (default: 127.0.0.1, this machine only; 0.0.0.0 is everyone)",
    )  # fmt: skip
    parser.add_argument(
        "--faces", choices=("all", "largest", "whole"),
        help="which faces, unless the page's boxes or a request's options say otherwise; as in "
        "fer-jax predict",
    )  # fmt: skip
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument(
        "--no_page", action="store_true", help="serve REST only: starts faster, needs no gradio"
    )
    parser.add_argument(
        "--allow_host", action="append", default=[], metavar="NAME",
        help="a further name of this server, such as a reverse proxy's; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--max_queue", type=int, default=128, metavar="N",
        help="photos in work or waiting; more are refused with status 503 (default: 128)",
    )  # fmt: skip
    parser.add_argument(
        "--max_wait", type=float, default=2.0, metavar="MS",
        help="milliseconds that a face waits for faces of other requests, to go through the "
        "network with them (default: 2)",
    )  # fmt: skip
    add_plugins(parser)
    options = parser.parse_args(arguments)
    for name, value, low, high in (
        ("port", options.port, 1, 65535),
        ("max_queue", options.max_queue, 1, 10_000),
        ("max_wait", options.max_wait, 0, 1000),
    ):
        if value is not None and not low <= value <= high:
            raise UserError(f"expected --{name} from {low} to {high}, found {value:g}")
    return options
