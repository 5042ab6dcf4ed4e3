"""A folder that reads faces in a browser: page, networks and ONNX Runtime Web.

Any static file host can serve it, and it loads nothing from elsewhere. `web/` has the page's
sources; the face finder and the framing there are translations of `fer_jax.faces`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.export import card, model_card
from fer_jax.faces import mtcnn
from fer_jax.faces.detect import MTCNN
from fer_jax.faces.finder import MIN_SHARE
from fer_jax.inference.network import Network

MODEL = "model.json"
"""Metadata of the network: that of the ONNX file, and what the face finder needs."""

CARD = "model_card.txt"
"""Hosts serve .txt as text that a browser shows."""

_SOURCES = Path(__file__).with_name("web")


def check_folder(folder: Path) -> None:
    """Checks that a page may be written into a folder.

    Raises:
      UserError: a file, or a folder with other content.
    """
    if folder.is_file():
        raise UserError(f"expected a folder for --out with --format web, found the file {folder}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MODEL).is_file():
        raise UserError(
            f"expected a new or empty folder for --out, or one of an earlier page, found {folder} "
            "with other files; choose another"
        )


def write(folder: Path, network: Network, variant: str, ort: Mapping[str, bytes]) -> None:
    """Writes the page beside the network's ONNX file.

    Args:
      folder: of the page.
      network: of the run.
      variant: number format of the ONNX file.
      ort: the files of `ort_web.read`.
    """
    for source in sorted(_SOURCES.iterdir()):
        files.write_bytes(folder / source.name, source.read_bytes())
    for name, content in ort.items():
        files.write_bytes(folder / "ort" / name, content)
    with np.load(mtcnn.WEIGHTS) as stored:
        for name in stored.files:
            file = _any_size(stored[name].tobytes())
            files.write_bytes(folder / "mtcnn" / f"{name}.onnx", file)
    files.write_text(folder / CARD, model_card.text(network))
    files.write_text(folder / MODEL, json.dumps(description(network, variant), indent=1) + "\n")


def description(network: Network, variant: str) -> dict[str, Any]:
    """Returns the content of `MODEL`. The page has no Haar cascades: MTCNN replaces them."""
    framing = dataclasses.replace(card.exported_framing(network.run), detector=MTCNN)
    metadata = card.metadata(network, variant)
    return {**metadata, "faces": framing.to_json(), "min_share": MIN_SHARE}


def _any_size(file: bytes) -> bytes:
    """Declares the batch and the image size of a network of MTCNN as variable."""
    import onnx

    model = onnx.load_from_string(file)
    for port in (*model.graph.input, *model.graph.output):
        batch, _, *sides = port.type.tensor_type.shape.dim
        for dimension, name in zip((batch, *sides), ("batch", "height", "width"), strict=True):
            dimension.dim_param = name if port in model.graph.input else f"{name}_out"
    return bytes(model.SerializeToString())
