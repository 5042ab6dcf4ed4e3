"""Turns an uploaded file into the page's image and HTML, independent of gradio.

Never raises for bad uploads: an unreadable file becomes a message on the page.
"""

from __future__ import annotations

import base64
import dataclasses
import html
from pathlib import Path

import cv2
import numpy as np

from fer_jax.faces.decode import UnreadableError, read_image
from fer_jax.faces.finder import Choice
from fer_jax.inference.draw import annotate
from fer_jax.inference.overlay import overlay
from fer_jax.inference.results import Face
from fer_jax.serve.predictor import BusyError, Options, Predictor

MAX_FACES = 12
"""Faces whose probabilities are listed; the image shows the boxes of all faces."""

_MAX_SIDE = 1600  # pixels, of the annotated image sent to the browser
_THUMBNAIL = 112  # pixels


@dataclasses.dataclass(frozen=True, eq=False)
class Response:
    """What the page shows for an upload.

    Attributes:
      image: uint8[H, W, 3] RGB with boxes and labels; None if there is nothing to show.
      details: HTML with the probabilities of each face, or a message.
    """

    image: np.ndarray | None
    details: str


def respond(predictor: Predictor, path: str | None, faces: Choice, explain: bool) -> Response:
    """Predicts an uploaded image.

    Args:
      predictor: of the opened run.
      path: path of the uploaded file; None if nothing was uploaded.
      faces: the largest face, all, or the whole image as one face.
      explain: whether to overlay Grad-CAM heat maps.
    """
    if path is None:
        return Response(None, message("Upload a photo, take one, or choose an example."))
    try:
        image = read_image(Path(path))
    except UnreadableError as error:
        return Response(None, message(f"This file cannot be used as an image: {error}.", True))
    try:
        (answer,) = predictor.submit([image], Options(faces, explain=explain))
    except BusyError as error:
        return Response(None, message(f"The server is busy: {error}. Try again.", True))
    found = tuple(answer.result().faces)
    annotated = annotate(image, found)
    scale = min(1.0, _MAX_SIDE / max(annotated.shape[:2]))
    if scale < 1:
        annotated = cv2.resize(annotated, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return Response(annotated, details(found))


def message(text: str, is_warning: bool = False) -> str:
    """Returns HTML of one sentence."""
    kind = "fer-message fer-wrong" if is_warning else "fer-message"
    return f'<p class="{kind}" role="status">{html.escape(text)}</p>'


def details(faces: tuple[Face, ...]) -> str:
    """Returns HTML with a block per face, from left to right: its label and a bar per class."""
    shown = sorted(faces[:MAX_FACES], key=lambda face: face.box[0])
    blocks = [_block(face, number) for number, face in enumerate(shown, 1)]
    head = ""
    if faces[0].found == "whole":
        head = message("No face was found, so the whole image was classified.", True)
    if len(faces) > MAX_FACES:
        blocks.append(message(f"{len(faces) - MAX_FACES} more faces are marked in the image."))
    return head + f'<div class="fer-faces">{"".join(blocks)}</div>'


def _block(face: Face, number: int) -> str:
    rows = "".join(
        f'<tr class="{"fer-best" if name == face.label else ""}">'
        f'<th scope="row">{html.escape(name)}</th>'
        f'<td class="fer-track"><div style="width:{100 * value:.1f}%"></div></td>'
        f'<td class="fer-number">{value:.1%}</td></tr>'
        for name, value in face.probabilities.items()
    )
    title = f"Face {number}: {html.escape(face.label)}"
    return (
        f'<section class="fer-face"><h3>{title}</h3><div class="fer-row">'
        f'<img alt="{title}" src="{_data_url(_thumbnail(face))}">'
        f"<table>{rows}</table></div></section>"
    )


def _thumbnail(face: Face) -> np.ndarray:
    side = 2 * _THUMBNAIL  # sharp on high-density screens
    image = cv2.resize(face.pixels, (side, side), interpolation=cv2.INTER_CUBIC)
    return image if face.heat is None else overlay(image, face.heat)


def _data_url(image: np.ndarray) -> str:
    is_encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert is_encoded
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
