"""The page's layout, events and style, with gradio (the extra `serve`).

The page makes no request to another host: it uses system fonts, and gradio's analytics are off.
"""

from __future__ import annotations

import contextlib
import errno
import html
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fer_jax.errors import UserError
from fer_jax.faces.finder import Choice
from fer_jax.inference.model import Model
from fer_jax.run_dir import report_warnings
from fer_jax.serve import response
from fer_jax.serve.guard import Guard

EXAMPLES = Path(__file__).parent / "examples"
"""Rendered faces, made by `python tools/render_examples.py` in a checkout."""

MAX_UPLOAD = "10mb"

_DELETE_SECONDS = (60, 600)  # how often files are deleted, and from which age on

_STYLE = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
.fer-banner { border-left: 4px solid #d55e00; padding: 6px 12px; margin: 4px 0;
  background: color-mix(in srgb, #d55e00 12%, transparent); }
.fer-about { opacity: 0.8; margin: 0; }
.fer-message { padding: 8px 0; margin: 0; }
.fer-wrong { font-weight: 600; }
.fer-faces { display: flex; flex-direction: column; gap: 14px; }
.fer-face h3 { margin: 0 0 6px; font-size: 1.05rem; }
.fer-row { display: flex; gap: 14px; align-items: flex-start; flex-wrap: wrap; }
.fer-row img { width: 112px; height: 112px; border-radius: 6px; margin: 0; }
.fer-row table { flex: 1 1 220px; table-layout: fixed; border-collapse: collapse; width: auto;
  margin: 0; border: 0; }
.fer-row tr, .fer-row th, .fer-row td { border: 0; background: none; padding: 1px 0; }
.fer-row th { text-align: right; font-weight: 400; padding-right: 8px; width: 6.4em; }
.fer-track div { height: 12px; min-width: 1px; border-radius: 2px; background: #9aa7b1; }
.fer-best .fer-track div { background: #0072b2; }
.fer-best th, .fer-best .fer-number { font-weight: 700; }
.fer-number { text-align: right; width: 4.2em; font-variant-numeric: tabular-nums; }
"""


def make_page(model: Model, faces: Choice | None = None) -> Any:
    """Returns the page of a run as `gradio.Blocks`; `launch` serves it.

    Args:
      model: the opened run.
      faces: what the page's boxes say at first; None for the default of the run.

    Raises:
      UserError: gradio is not installed.
    """
    gradio = import_gradio()
    faces = faces or ("whole" if model.framing.takes_whole else "all")
    labels, empty = ", ".join(model.labels), response.respond(model, None, "all", False)
    with gradio.Blocks(
        title=f"fer_jax: {model.run.name}", analytics_enabled=False, delete_cache=_DELETE_SECONDS
    ) as page:
        gradio.HTML(_heading(model))
        with gradio.Row():
            with gradio.Column(min_width=320):
                photo = gradio.Image(
                    type="filepath", sources=["upload", "webcam", "clipboard"], height=340,
                    label="Photo", elem_id="picture", buttons=[],
                    placeholder="Drop a photo here (at most 10 MB),\nor click to choose one",
                )  # fmt: skip
                # gradio's own preprocessing raises on unreadable files; `respond` reports them.
                photo.preprocess = lambda upload: upload.path if upload else None
                with gradio.Row():
                    all_faces = gradio.Checkbox(
                        faces != "largest", label="All faces", elem_id="every", min_width=120
                    )
                    is_face = gradio.Checkbox(
                        faces == "whole", label="The photo is one face already", elem_id="given",
                        min_width=180,
                    )  # fmt: skip
                    label = "Heat maps (Grad-CAM)"
                    explain = gradio.Checkbox(False, label=label, elem_id="why", min_width=180)
                gradio.Examples(
                    [[str(path)] for path in sorted(EXAMPLES.glob("*.jpg"))], [photo],
                    label="Examples (rendered people)", examples_per_page=6,
                )  # fmt: skip
            with gradio.Column(min_width=320):
                annotated = gradio.Image(
                    interactive=False, label="Faces", elem_id="shown", height=340, format="jpeg",
                    buttons=["download", "fullscreen"],
                )  # fmt: skip
                details = gradio.HTML(empty.details, elem_id="listed", label=labels)

        def respond(path: str | None, is_all: bool, is_whole: bool, maps: bool) -> tuple[Any, str]:
            chosen: Choice = "whole" if is_whole else "all" if is_all else "largest"
            result = response.respond(model, path, chosen, maps)
            return result.image, result.details

        inputs, outputs = [photo, all_faces, is_face, explain], [annotated, details]
        for event in (photo.change, all_faces.input, is_face.input, explain.input):
            event(
                respond, inputs, outputs,
                show_progress="minimal", concurrency_limit=1, api_name=False,
            )  # fmt: skip
    return page


def import_gradio() -> Any:
    """Imports gradio with analytics and telemetry turned off.

    Raises:
      UserError: gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            f"expected the package gradio, found no {error.name}; install it with: "
            "pip install 'fer-jax[serve]'"
        ) from None
    return gradio


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Makes a folder that only this user can read, for all that the page stores; deletes it.

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


def check_address(host: str, port: int | None) -> None:
    """Checks that the server can listen.

    Raises:
      UserError: the port is in use or reserved, or the host is no address of this machine.
    """
    at = f"{host}{f':{port}' if port else ''}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port or 0, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.EADDRINUSE, errno.EACCES):
            why = "in use" if number == errno.EADDRINUSE else "reserved for the administrator"
            raise UserError(
                f"expected a free port, found {at} {why}; choose another --port, or leave it out"
            ) from None
        raise UserError(
            f"expected --host to be an address of this machine, found {host}; use 127.0.0.1 for "
            "this machine only, or 0.0.0.0 for all of its addresses"
        ) from None


def launch(page: Any, host: str, port: int | None, folder: Path) -> str:
    """Serves a page in background threads and returns its URL.

    Args:
      page: the result of `make_page`.
      host: address to listen on.
      port: port to listen on; None for the first free one from 7860.
      folder: from `private_folder`.

    Raises:
      UserError: the port is in use, or the host is not an address of this machine.
    """
    gradio = import_gradio()
    from starlette.middleware import Middleware  # a dependency of gradio

    theme = gradio.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    try:
        _, address, _ = page.launch(
            server_name=f"[{host}]" if ":" in host else host, server_port=port,
            prevent_thread_lock=True, quiet=True, share=False, inbrowser=False,
            show_error=True, max_file_size=MAX_UPLOAD, theme=theme, css=_STYLE,
            ssr_mode=False, footer_links=[], run_history=False, enable_monitoring=False,
            mcp_server=False,
            app_kwargs={"middleware": [Middleware(Guard, host=host, folder=folder)]},
        )  # fmt: skip
    except OSError as error:
        raise UserError(
            f"expected to listen on {host}{f':{port}' if port else ''}, found: "
            f"{str(error).splitlines()[0]}; choose another --port or --host"
        ) from None
    return str(address)


def _heading(model: Model) -> str:
    run = model.run
    about = (
        f"{run.settings.model.name} at {model.size} pixels, trained on {run.data['name']}; "
        f"classes: {', '.join(model.labels)}"
    )
    banners = "".join(
        f'<div class="fer-banner">{html.escape(line)}</div>' for line in report_warnings(run)
    )
    return (
        f"<h1>{html.escape(run.name)}</h1>{banners}"
        f'<p class="fer-about">{html.escape(about)}. Photos are sent only to the machine that '
        "serves this page. It stores them in a folder of its own, for about ten minutes, and "
        "deletes it when it ends. An expression does not show what a person feels.</p>"
    )
