"""From an uploaded file to what the page shows; knows nothing of the page's library.

Whatever a browser sends, the result is an answer: a file that is no picture is told, not raised.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import threading
from pathlib import Path

import cv2
import numpy as np

from fer_jax.api import Model
from fer_jax.faces.decode import UnreadableError, read_picture
from fer_jax.inference.draw import annotate
from fer_jax.inference.locate import Choice
from fer_jax.inference.overlay import overlay
from fer_jax.inference.results import Face

MOST_FACES = 12
"""Faces whose probabilities are listed; all are framed in the picture."""

_LONGEST = 1600  # pixels of the annotated picture that is sent back
_THUMB = 112  # pixels

# One picture at a time: threads of the server share the network and its face finder.
_BUSY = threading.Lock()


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What the page shows.

    Attributes:
      picture: uint8[H, W, 3] RGB, annotated; None if there is nothing to show.
      listing: HTML with the probabilities of each face, or a message.
    """

    picture: np.ndarray | None
    listing: str


def answer(model: Model, path: str | None, choice: Choice, explain: bool) -> Answer:
    """Says what the faces of an uploaded picture express.

    Args:
      model: the run.
      path: of the file; None if nothing was uploaded.
      choice: the largest face or all.
      explain: whether to lay Grad-CAM over the faces.
    """
    if path is None:
        return Answer(None, message("Upload a picture, take one, or choose an example."))
    try:
        image = read_picture(Path(path))
    except UnreadableError as error:
        return Answer(None, message(f"This is not a picture that can be used: {error}.", True))
    with _BUSY:
        (result,) = model.predict(image, choice=choice, explain=explain)
    shown = annotate(image, result.faces)
    scale = min(1.0, _LONGEST / max(shown.shape[:2]))
    if scale < 1:
        shown = cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return Answer(shown, listing(result.faces))


def message(text: str, wrong: bool = False) -> str:
    """HTML of one sentence."""
    kind = "fer-message fer-wrong" if wrong else "fer-message"
    return f'<p class="{kind}" role="status">{html.escape(text)}</p>'


def listing(faces: tuple[Face, ...]) -> str:
    """HTML with a block for each face, from left to right: its class, and a bar for every class."""
    shown = sorted(faces[:MOST_FACES], key=lambda face: face.box[0])
    blocks = [_block(face, number) for number, face in enumerate(shown, 1)]
    head = ""
    if faces[0].found == "whole":
        head = message("No face was found: the whole picture was taken for one.", True)
    if len(faces) > MOST_FACES:
        blocks.append(message(f"{len(faces) - MOST_FACES} more faces are framed in the picture."))
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
        f'<img alt="{title}" src="{_inline(_thumb(face))}"><table>{rows}</table></div></section>'
    )


def _thumb(face: Face) -> np.ndarray:
    small = cv2.resize(face.pixels, (_THUMB * 2, _THUMB * 2), interpolation=cv2.INTER_CUBIC)
    return small if face.heat is None else overlay(small, face.heat)


def _inline(picture: np.ndarray) -> str:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
