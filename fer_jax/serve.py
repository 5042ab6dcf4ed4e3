"""Serves a local page where a run says what the faces of uploaded pictures express.

    python -m fer_jax.serve runs/demo

Listens at 127.0.0.1 unless told otherwise; nothing is kept, and no other host is asked for
anything. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from fer_jax import errors, huge_pages
from fer_jax.errors import UserError


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_jax.serve", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="run directory, such as runs/demo")
    parser.add_argument(
        "--host", default="127.0.0.1",
        help="address to listen at (default: 127.0.0.1, this machine only; 0.0.0.0 is everybody)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """The command line.

    Raises:
      UserError: no run, gradio missing, or a port that is taken.
    """
    options = parse(arguments)
    if options.port is not None and not 0 < options.port < 65536:
        raise UserError(f"expected --port from 1 to 65535, found {options.port}")
    # What imports JAX comes after the process has begun again.
    from fer_jax import run as run_directory

    run = run_directory.open_run(options.run)

    # gradio takes seconds to import: wrong input is answered before.
    from fer_jax.api import Model
    from fer_jax.engine import compile_cache
    from fer_jax.serving import page

    page.import_gradio()
    compile_cache.enable()
    address = page.launch(page.make_page(Model(run)), options.host, options.port)
    print(f"{run.name} is served at {address}  (Ctrl-C ends it)", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    huge_pages.begin_again()
    with errors.exit_cleanly():
        main(sys.argv[1:])
