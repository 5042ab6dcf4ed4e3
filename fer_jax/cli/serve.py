"""Serves a local page that reads the expressions in uploaded images.

    fer-jax serve
    fer-jax serve runs/demo

Without a run directory the shipped model predicts.

Listens at 127.0.0.1 unless told otherwise and connects to no other host. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from fer_jax.errors import UserError
from fer_jax.printable import printable


def main(arguments: Sequence[str]) -> None:
    """Serves until Ctrl-C.

    Raises:
      UserError: no run, gradio missing, a port that is taken, or an address that is not ours.
    """
    options = parse(arguments)
    if options.port is not None and not 0 < options.port < 65536:
        raise UserError(f"expected --port from 1 to 65535, found {options.port}")
    from fer_jax import run_dir

    run = run_dir.open_run(options.run or run_dir.DEFAULT_RUN)
    if options.run is None:
        print(run_dir.introduce(run), file=sys.stderr)

    # Importing gradio and JAX takes seconds; wrong input is reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.inference.model import Model
    from fer_jax.runtime import compile_cache, signals
    from fer_jax.serve import page

    page.check_address(options.host, options.port)
    with signals.interrupt_on_terminate() as received:
        try:
            with page.private_folder() as folder:
                page.import_gradio()
                quiet_orbax()
                compile_cache.enable()
                shown = page.make_page(Model(run), options.faces)
                address = page.launch(shown, options.host, options.port, folder)
                try:
                    name = printable(run.name)
                    print(f"{name} is served at {address}  (Ctrl-C ends it)", flush=True)
                    threading.Event().wait()
                finally:
                    shown.close(verbose=False)
        except KeyboardInterrupt:
            if received:
                raise SystemExit(128 + received[0]) from None
            raise


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax serve", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "run", type=Path, nargs="?",
        help="run directory, such as runs/demo (default: the shipped model)",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1",
        help="address to listen at (default: 127.0.0.1, this machine only; 0.0.0.0 is everyone)",
    )  # fmt: skip
    parser.add_argument(
        "--faces", choices=("all", "largest", "whole"),
        help="which faces, until the page's boxes say otherwise; as in fer-jax predict",
    )  # fmt: skip
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    return parser.parse_args(arguments)
