"""Writes a run's network as one file that runs without fer_jax, and checks what it says.

    fer-jax export runs/demo --format onnx --out demo.onnx --variant int8
    fer-jax export runs/demo --format stablehlo --out demo.stablehlo

The input is uint8[B, S, S, 3] RGB: faces, cut and resized; normalisation and channel order are
inside. `run_exported.py` beside the file shows how faces are cut, and runs it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.run_dir import Run

if TYPE_CHECKING:
    from fer_jax.inference.network import Network

FORMATS = ("onnx", "stablehlo")
VARIANTS = ("float32", "float16", "int8")

PARITY = 1e-4
"""Largest difference of a probability between the run and its float32 file."""

SCRIPT = "run_exported.py"

_BATCH = 32
_PICTURES = 256  # of test and of validation: seconds for the largest network
EXIT_OTHER_NUMBERS = 1


class ParityError(Exception):
    """The exported file says other things than the run."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Pictures to compare on.

    Attributes:
      faces: uint8[N, S, S, 3].
      labels: int32[N], or None where nobody knows them.
      calibration: uint8[M, S, S, 3] of another split, or None.
      origin: what they are, for people.
    """

    faces: np.ndarray
    labels: np.ndarray | None
    calibration: np.ndarray | None
    origin: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An exported file beside the run.

    Attributes:
      difference: the largest of a probability.
      agreement: share of pictures with the same class.
      accuracies: of the run and of the file; None without labels.
    """

    difference: float
    agreement: float
    accuracies: tuple[float, float] | None


def export(run: Run, kind: str, variant: str, out: Path, samples: Samples) -> Comparison:
    """Writes the file and the script beside it, and compares the file with the run.

    Args:
      run: a trained run.
      kind: one of `FORMATS`.
      variant: one of `VARIANTS`.
      out: the file.
      samples: what to compare on.

    Raises:
      UserError: no checkpoint, a missing package, or a variant that the format has not.
      ParityError: the float32 file differs by more than `PARITY`.
    """
    from fer_jax.inference.network import Network

    network = Network(run)
    say = _write(network, kind, variant, out, samples)
    script = Path(__file__).with_name(f"run_{kind}.py")
    files.write_text(out.parent / SCRIPT, script.read_text())
    compared = compare(network.classify(samples.faces), say(samples.faces), samples.labels)
    if variant == "float32" and not compared.difference < PARITY:
        raise ParityError(
            f"expected {out} to say what the run says within {PARITY:g}, found a difference of "
            f"{compared.difference:.2g} on {samples.origin}; do not use it, and report this with "
            "the versions in run.json"
        )
    return compared


def _write(
    network: Network, kind: str, variant: str, out: Path, samples: Samples
) -> Callable[[np.ndarray], np.ndarray]:
    """Writes the file; gives a function from faces to what the file says of them."""
    from fer_jax.export import card, onnx_file, stablehlo

    metadata = card.metadata(network, variant)
    if kind == "stablehlo":
        stablehlo.write(out, stablehlo.export(network), metadata)
        return lambda faces: stablehlo.run(out, faces, _BATCH)
    model = onnx_file.export(network)
    if variant == "float16":
        model = onnx_file.to_float16(model)
    elif variant == "int8":
        assert samples.calibration is not None
        model = onnx_file.to_int8(model, samples.calibration)
    onnx_file.write(out, model, metadata)
    return lambda faces: onnx_file.run(out, faces, _BATCH)


def compare(wanted: np.ndarray, found: np.ndarray, labels: np.ndarray | None) -> Comparison:
    """Compares probabilities float32[N, C]."""
    if wanted.shape != found.shape or not np.isfinite(found).all():
        return Comparison(np.inf, 0.0, None)
    chosen, given = wanted.argmax(axis=1), found.argmax(axis=1)
    accuracies = None
    if labels is not None:
        accuracies = float((chosen == labels).mean()), float((given == labels).mean())
    difference = float(np.abs(wanted - found).max())
    return Comparison(difference, float((chosen == given).mean()), accuracies)


def find_samples(run: Run) -> Samples:
    """Pictures of the run's test and validation splits; noise where the data is not here."""
    from fer_jax.data.records import open_split
    from fer_jax.training import build as experiment
    from tfds_builders import prepare as build

    size = run.preprocessing.size
    try:
        data = build.prepare(**experiment.data_arguments(run.config))
        test = open_split(data, "test", run.preprocessing)
        validation = open_split(data, "validation", run.preprocessing)
    except UserError as error:
        print(f"the run's data is not here ({str(error).splitlines()[0][:80]}...)", file=sys.stderr)
        noise = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)
        return Samples(noise, None, None, "64 pictures of noise")
    rows = _spread(len(test))
    known = test.labels[rows] if test.label_names == run.labels else None
    return Samples(
        np.stack([test.read(row) for row in rows]),
        known,
        np.stack([validation.read(row) for row in _spread(len(validation))]),
        f"{len(rows)} test pictures of {run.data['name']}",
    )


def _spread(count: int) -> list[int]:
    """Up to `_PICTURES` row numbers over all of a split: neighbours are alike."""
    return [int(row) for row in np.linspace(0, count - 1, min(count, _PICTURES)).round()]


def describe(compared: Comparison, out: Path, variant: str, samples: Samples) -> list[str]:
    """The closing lines."""
    difference = f"largest difference of a probability {compared.difference:.2g}"
    agreement = f"same class for {compared.agreement:.1%}"
    lines = [f"compared on {samples.origin}: {difference}, {agreement}"]
    if compared.accuracies:
        run_accuracy, file_accuracy = compared.accuracies
        lines.append(f"accuracy there: run {run_accuracy:.4f}, {variant} file {file_accuracy:.4f}")
    lines.append(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")
    lines.append(f"{out.parent / SCRIPT}  (try: python {SCRIPT} {out.name} photo.jpg)")
    return lines
