"""Runs an exported ONNX, StableHLO or LiteRT file on images, without fer_jax.

    python run_exported.py demo.onnx photo.jpg ...

Needs numpy, opencv-python-headless 4.x and the folder fer_jax_faces beside it; ONNX files also need
onnxruntime, StableHLO files jax and flatbuffers, LiteRT files ai-edge-litert. Detects and frames
faces with the code of `fer-jax predict`, and prints one JSON line per face.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "250000000")  # read when cv2 is imported

import numpy as np

from fer_jax.errors import UserError, exit_cleanly
from fer_jax.faces.decode import UnreadableError, read_image
from fer_jax.faces.finder import CHOICES, MIN_SHARE, Choice, FaceFinder
from fer_jax.faces.framing import Framing
from fer_jax.printable import printable

FORMAT = 3
"""Version of the files' metadata that this script reads."""

Classify = Callable[[np.ndarray], np.ndarray]
"""uint8[B, S, S, 3] RGB faces to float32[B, C + E].

The columns are the probabilities of the classes, then those of each further output in the
metadata's `heads`: action units, or valence and arousal.
"""


def load(path: str) -> tuple[Classify, dict[str, Any]]:
    """Opens an exported file.

    Returns:
      The network, and the metadata.

    Raises:
      UserError: no file, another kind of file, or one of another version.
    """
    try:
        classify, metadata = _load(path)
    except ImportError as error:
        raise UserError(f"expected the package {error.name}, found none; install it") from None
    except Exception as error:  # noqa: BLE001 - the runtimes raise errors of many types
        raise UserError(
            f"expected a file that fer-jax export wrote, found {path}: {str(error)[:200]}"
        ) from None
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"expected metadata of format {FORMAT}, found format {metadata.get('format')} in "
            f"{path}; export the run again, which also writes the script for it"
        )
    return classify, metadata


def _load(path: str) -> tuple[Classify, dict[str, Any]]:
    if not zipfile.is_zipfile(path):
        return _load_onnx(path)
    with zipfile.ZipFile(path) as archive:
        is_stablehlo = "program.stablehlo" in archive.namelist()
    return _load_stablehlo(path) if is_stablehlo else load_litert(path)


def _load_stablehlo(path: str) -> tuple[Classify, dict[str, Any]]:
    import jax.export

    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json"))
        program = jax.export.deserialize(bytearray(archive.read("program.stablehlo")))
    return lambda faces: joined(program.call(faces)), metadata


def joined(outputs: Any) -> np.ndarray:
    """Returns one or more arrays [B, ...] side by side."""
    arrays = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    return np.concatenate([np.asarray(array) for array in arrays], axis=1)


def _load_onnx(path: str) -> tuple[Classify, dict[str, Any]]:
    with open(path, "rb") as file:
        if file.read(1) != b"\x08":  # the protobuf tag of the field ir_version
            raise ValueError("neither ONNX, StableHLO nor LiteRT")
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["fer_jax"])
    return lambda faces: joined(session.run(None, {"faces": faces})), metadata


def load_litert(path: str) -> tuple[Classify, dict[str, Any]]:
    """Opens a LiteRT file, which takes one face at a time; its metadata is a zip at its end."""
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=path).get_signature_runner()
    names = ("probabilities", *metadata.get("heads", ()))

    def classify(face: np.ndarray) -> np.ndarray:
        outputs = run(faces=face[None])
        return joined([outputs[name] for name in names])

    return lambda faces: np.concatenate(list(map(classify, faces))), metadata


def predict(
    classify: Classify, metadata: dict[str, Any], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yields each face of the images; names unreadable ones on stderr."""
    framing = Framing.from_json(metadata["faces"])
    finder = FaceFinder(framing, options.min_face, options.detector)
    choice: Choice = options.faces or ("whole" if framing.takes_whole else "all")
    for path in options.images:
        try:
            image = read_image(Path(path))
        except UnreadableError as error:
            print(printable(f"skipped {path}: {error}"), file=sys.stderr)
            continue
        located = finder.find(image, choice, options.no_face == "whole")
        rows = classify(np.stack([face.pixels for face in located])) if located else ()
        for face, row in zip(located, rows, strict=True):
            values = iter(map(float, row))
            probabilities = {name: next(values) for name in metadata["labels"]}
            heads = {
                head: {name: next(values) for name in names}
                for head, names in metadata.get("heads", {}).items()
            }
            yield {
                "source": path,
                "box": list(face.box),
                "found": face.found,
                "label": max(probabilities, key=probabilities.__getitem__),
                "probabilities": probabilities,
                **({"units": heads["units"]} if "units" in heads else {}),
                **heads.get("valence_arousal", {}),
            }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags, which are those of `fer-jax predict`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("model", help="the exported file")
    parser.add_argument("images", nargs="+")
    parser.add_argument(
        "--faces", choices=CHOICES,
        help="which faces (default: all); whole: each image is cropped to a face already",
    )  # fmt: skip
    parser.add_argument(
        "--min_face", type=float, default=MIN_SHARE, metavar="SHARE",
        help="smallest face side, as a share of the image's shorter side (default: 0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--detector", metavar="NAME",
        help="mtcnn, haar, haar_frontal, or the file of a YuNet model (default: the run's)",
    )  # fmt: skip
    parser.add_argument(
        "--no_face", choices=("whole", "skip"), default="whole",
        help="an image without a face: classify the whole image (default), or skip it",
    )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Prints one JSON line per face.

    Raises:
      UserError: a file that cannot be run, or a detector that is none.
    """
    options = parse(arguments)
    classify, metadata = load(options.model)
    for face in predict(classify, metadata, options):
        print(json.dumps(face))


if __name__ == "__main__":
    with exit_cleanly():
        main(sys.argv[1:])
