"""Exports a run's network as one file, or as a web page, and compares its output with the run's.

The file's input is uint8[B, S, S, 3] RGB, cropped and resized faces; normalization and channel
order are part of the network. The script `run_exported.py`, written beside the file, detects and
frames faces and runs the file. It runs every file of its version, so several may share a folder.
A web page is a folder with an ONNX file and what a browser needs to run it; see `web`.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_jax import errors, faces, files, printable
from fer_jax.errors import UserError
from fer_jax.faces import mtcnn
from fer_jax.run_dir import Run

if TYPE_CHECKING:
    from fer_jax.inference.network import Network

FORMATS = ("onnx", "stablehlo", "litert", "web")
VARIANTS = ("float32", "float16", "int8")

PARITY = 1e-4
"""Maximum difference of a probability between the run and its float32 file."""

SCRIPT = "run_exported.py"

FACES = "fer_jax_faces"
"""Folder beside the script: a copy of fer_jax/faces and of what that imports."""

WEB_MODEL = "model.onnx"
"""The network's file in the folder of a page."""

_BATCH = 32
_SAMPLES = 256  # of the test and validation split each: seconds for the largest network


class ParityError(Exception):
    """The exported file's probabilities differ from the run's."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Face images to compare the exported file with the run on.

    Attributes:
      faces: uint8[N, S, S, 3] RGB.
      labels: int32[N] class indices; None if unknown.
      calibration: uint8[M, S, S, 3] RGB of another split, to quantize with; None if unavailable.
      origin: description of the images for messages.
    """

    faces: np.ndarray
    labels: np.ndarray | None
    calibration: np.ndarray | None
    origin: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An exported file compared with its run.

    Attributes:
      difference: maximum absolute difference of a probability, or of valence or arousal.
      agreement: fraction of images with the same predicted class.
      accuracies: accuracy of the run and of the file; None without labels.
    """

    difference: float
    agreement: float
    accuracies: tuple[float, float] | None


def export(
    run: Run,
    file_format: str,
    variant: str,
    out: Path,
    samples: Samples,
    ort: Mapping[str, bytes] | None = None,
) -> Comparison:
    """Writes the file and its script, or the page, and compares the file with the run.

    Args:
      run: a trained run.
      file_format: one of `FORMATS`.
      variant: one of `VARIANTS`; StableHLO and LiteRT files are float32 only.
      out: the file to write; the folder of a page.
      samples: images to compare on.
      ort: for a page, the files of `ort_web.read`.

    Raises:
      UserError: no checkpoint, a missing package, or a network that ONNX cannot express.
      ParityError: the float32 file differs by more than `PARITY`.
    """
    from fer_jax.inference.network import Network

    network = Network(run)
    file = out / WEB_MODEL if file_format == "web" else out
    comparison = write_checked(network, file_format, variant, file, samples)
    if ort is None:
        write_script(out.parent)
    else:
        from fer_jax.export import web

        web.write(out, network, variant, ort)
    return comparison


def write_checked(
    network: Network, file_format: str, variant: str, file: Path, samples: Samples
) -> Comparison:
    """Writes the file and compares it with the run; the arguments and errors are `export`'s."""
    run_file = _write(network, file_format, variant, file, samples)
    expected, actual = network.answer(samples.faces), run_file(samples.faces)
    comparison = compare(expected, actual, samples.labels, len(network.run.labels))
    if variant == "float32" and not comparison.difference < PARITY:
        raise ParityError(
            f"expected probabilities of {file} within {PARITY:g} of the run's, found a difference "
            f"of {comparison.difference:.2g} on {samples.origin}; do not use the file, and report "
            "this with the versions in run.json"
        )
    return comparison


def write_script(folder: Path) -> None:
    """Writes the script that runs exported files, and the code that frames faces."""
    sources = [*Path(faces.__file__).parent.glob("*.py")]
    sources += [Path(str(module.__file__)) for module in (errors, printable)]
    for source in sources:
        files.write_text(folder / FACES / source.name, _standalone(source))
    files.write_bytes(folder / FACES / mtcnn.WEIGHTS.name, mtcnn.WEIGHTS.read_bytes())
    files.write_text(folder / SCRIPT, _standalone(Path(__file__).with_name(SCRIPT)))


def _standalone(source: Path) -> str:
    """Returns the source of a module that imports the copies instead of fer_jax."""
    return re.sub(r"(?m)^from fer_jax(\.faces)?\b", f"from {FACES}", source.read_text())


def _write(
    network: Network, file_format: str, variant: str, out: Path, samples: Samples
) -> Callable[[np.ndarray], np.ndarray]:
    """Writes the file; returns a function that runs it on faces uint8[N, S, S, 3]."""
    from fer_jax.export import card, litert, onnx_file, stablehlo

    metadata = card.metadata(network, variant)
    if file_format == "stablehlo":
        stablehlo.write(out, stablehlo.export(network), metadata)
        return lambda faces: stablehlo.run(out, faces, _BATCH)
    if file_format == "litert":
        litert.write(out, litert.export(network), metadata)
        return lambda faces: litert.run(out, faces)
    model = onnx_file.export(network)
    if variant == "float16":
        model = onnx_file.to_float16(model)
    elif variant == "int8":
        assert samples.calibration is not None
        model = onnx_file.to_int8(model, samples.calibration)
    onnx_file.write(out, model, metadata)
    return lambda faces: onnx_file.run(out, faces, _BATCH)


def compare(
    expected: np.ndarray,
    actual: np.ndarray,
    labels: np.ndarray | None,
    classes: int | None = None,
) -> Comparison:
    """Compares answers float32[N, C + E] of the run and of the file.

    Args:
      expected: of the run.
      actual: of the file.
      labels: int32[N] true classes, or None.
      classes: the number C; None if there are no further heads.
    """
    if expected.shape != actual.shape or not np.isfinite(actual).all():
        return Comparison(np.inf, 0.0, None)
    run_classes, file_classes = (one[:, :classes].argmax(axis=1) for one in (expected, actual))
    accuracies = None
    if labels is not None:
        accuracies = float((run_classes == labels).mean()), float((file_classes == labels).mean())
    difference = float(np.abs(expected - actual).max())
    return Comparison(difference, float((run_classes == file_classes).mean()), accuracies)


def find_samples(run: Run) -> Samples:
    """Reads images of the run's test and validation splits, or makes noise if they are missing."""
    from fer_jax.data.records import open_split
    from fer_jax.training.build import data_arguments
    from tfds_builders.prepare import prepare

    try:
        data = prepare(**data_arguments(run.settings))
        test = open_split(data, "test", run.preprocessing)
        validation = open_split(data, "validation", run.preprocessing)
    except UserError as error:
        reason = str(error).splitlines()[0][:80]
        print(f"the run's data is not available ({reason}...)", file=sys.stderr)
        return noise_samples(run)
    rows = _spread(len(test))
    labels = test.labels[rows] if test.label_names == run.labels else None
    return Samples(
        np.stack([test.read(row) for row in rows]),
        labels,
        np.stack([validation.read(row) for row in _spread(len(validation))]),
        f"{len(rows)} test images of {run.data['name']}",
    )


def noise_samples(run: Run) -> Samples:
    """Makes images of noise."""
    size = run.preprocessing.size
    noise = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)
    return Samples(noise, None, None, "64 images of noise")


def _spread(count: int) -> list[int]:
    """Returns up to `_SAMPLES` evenly spaced rows of a split, because neighbors are similar."""
    return [int(row) for row in np.linspace(0, count - 1, min(count, _SAMPLES)).round()]


def describe(comparison: Comparison, out: Path, variant: str, samples: Samples) -> list[str]:
    """Returns the closing lines: the comparison and the files written."""
    difference = f"largest difference of a probability {comparison.difference:.2g}"
    agreement = f"same class for {comparison.agreement:.1%}"
    lines = [f"compared on {samples.origin}: {difference}, {agreement}"]
    if comparison.accuracies:
        run_accuracy, file_accuracy = comparison.accuracies
        lines.append(f"accuracy: run {run_accuracy:.4f}, {variant} file {file_accuracy:.4f}")
    if out.is_dir():
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        lines.append(f"{out / 'index.html'}  ({size / 1e6:.1f} MB with all files of the folder)")
        lines.append(f"to see it: python -m http.server --directory {shlex.quote(str(out))}")
        return lines
    lines.append(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")
    lines.append(f"{out.parent / SCRIPT}  (try: python {SCRIPT} {out.name} photo.jpg)")
    return lines
