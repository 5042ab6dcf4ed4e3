"""The page's layout, events and style, with gradio (the extra `serve`).

The page makes no request to another host: it uses system fonts, and gradio's analytics are off.
"""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

from fer_jax.faces.finder import Choice
from fer_jax.inference.model import Model
from fer_jax.run_dir import report_warnings
from fer_jax.serve import response
from fer_jax.serve.predictor import Predictor

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
@media (max-width: 540px) { #every, #given, #why { flex: 1 1 100% !important; } }
"""


def make_page(predictor: Predictor, faces: Choice | None = None) -> Any:
    """Returns the page of a run as `gradio.Blocks`, for `mount`.

    Args:
      predictor: of the opened run.
      faces: what the page's boxes say at first; None for the default of the run.
    """
    gradio = import_gradio()
    model = predictor.model
    faces = faces or predictor.default_faces
    labels, empty = ", ".join(model.labels), response.respond(predictor, None, "all", False)
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
            result = response.respond(predictor, path, chosen, maps)
            return result.image, result.details

        inputs, outputs = [photo, all_faces, is_face, explain], [annotated, details]
        for event in (photo.change, all_faces.input, is_face.input, explain.input):
            event(
                respond, inputs, outputs,
                show_progress="minimal", concurrency_limit=1, api_name=False,
            )  # fmt: skip
    return page


def import_gradio() -> Any:
    """Imports gradio with analytics and telemetry turned off."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import gradio

    return gradio


def mount(app: Any, page: Any) -> Any:
    """Adds a page to a FastAPI application, at /.

    Args:
      app: the application; paths that it has already remain its own.
      page: the result of `make_page`.

    Returns:
      The application that gradio made, which now answers all other paths of `app`.
    """
    gradio = import_gradio()
    theme = gradio.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    gradio.mount_gradio_app(
        app, page, "/", show_error=True, max_file_size=MAX_UPLOAD, theme=theme, css=_STYLE,
        ssr_mode=False, footer_links=[], run_history=False, enable_monitoring=False,
        mcp_server=False,
    )  # fmt: skip
    return app.routes[-1].app


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
        "deletes it when it ends. An expression does not show what a person feels. Programs use "
        '<a href="docs">the REST interface</a>.</p>'
    )
