"""Evaluates an ONNX model of somebody else on a split, and writes the report.

    fer-jax evaluate emotions.onnx --data fer2013

`emotions.json` beside it describes the model; `ForeignModel` lists its fields. The stored face
crops of the data set are its input, so that all models see the same images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fer_jax import files
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import decode_all
from fer_jax.errors import UserError
from fer_jax.experiments.comparison import FOREIGN
from fer_jax.experiments.evaluate import (
    OtherData,
    attributes_of,
    data_card,
    evaluation_name,
    map_labels,
    select,
    votes_of,
    with_all,
)
from fer_jax.experiments.reframing import open_framed
from fer_jax.faces.crop import FaceCrop
from fer_jax.labels import named
from fer_jax.report.card import Overlap
from fer_jax.report.predictions import Predictions
from fer_jax.report.write import ReportPaths, write_report
from fer_jax.run_dir import Run
from tfds_builders import prepare as build

_BATCH = 64
_COLORS = ("rgb", "bgr", "gray")
_OUTPUTS = ("probabilities", "logits")


@dataclasses.dataclass(frozen=True)
class ForeignModel:
    """The JSON beside a foreign model.

    Attributes:
      labels: classes in the order of the output; common spellings such as "happy" are known.
      size: side of the square input, pixels.
      color: channels of the input: "rgb", "bgr" or "gray" (one channel).
      range: values of the pixels 0 and 255, before `mean` and `std`.
      mean: subtracted, per channel.
      std: divides after that, per channel.
      layout: "NHWC" or "NCHW".
      output: "probabilities" or "logits".
      margin: around the face, as a share of its box; for sets of uncropped images, and for
        `--faces largest`.
      source: where the model is from and its license, for the report.
    """

    labels: tuple[str, ...]
    size: int
    color: str = "rgb"
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NHWC"
    output: str = "probabilities"
    margin: float = 0.0
    source: str = ""

    @classmethod
    def read(cls, path: Path) -> ForeignModel:
        """Reads the description of a model.

        Raises:
          UserError: the file is missing, or a field is missing, unknown or of no use.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        required = "labels and size"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            unknown = sorted(set(stored) - fields)
            if unknown or not {"labels", "size"} <= set(stored):
                raise ValueError(f"unknown fields {unknown}" if unknown else "fewer fields")
            model = cls(**{name: _as_field(value) for name, value in stored.items()})
            model._check()
        except FileNotFoundError:
            raise UserError(
                f"expected {path}, which describes the model, found none; write one with the "
                f"fields {required}, and where they differ from the defaults: "
                + ", ".join(f"{name}={value!r}" for name, value in _defaults().items())
            ) from None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"expected a JSON object with {required} and any of {', '.join(_defaults())} in "
                f"{path}, found: {error}"
            ) from None
        return model

    def _check(self) -> None:
        if not isinstance(self.labels, tuple):
            raise ValueError(f"labels {self.labels!r}, not a list")
        if not all(isinstance(name, str) and name for name in self.labels) or len(
            set(self.labels)
        ) != len(self.labels):
            raise ValueError(f"labels {self.labels!r}, not different names")
        if not isinstance(self.size, int) or not 1 <= self.size <= 4096:
            raise ValueError(f"size {self.size!r}, not a number of pixels")
        for value, known in (
            (self.color, _COLORS), (self.output, _OUTPUTS), (self.layout, ("NHWC", "NCHW")),
        ):  # fmt: skip
            if value not in known:
                raise ValueError(f"{value!r}, not one of {', '.join(known)}")
        numbers = np.array([*self.range, *self.mean, *self.std, self.margin], float)
        if len(self.range) != 2 or not np.isfinite(numbers).all() or min(self.std) <= 0:
            raise ValueError(f"range {self.range}, mean {self.mean}, std {self.std}")
        if {len(self.mean), len(self.std)} - {1, self.channels}:
            raise ValueError(f"mean and std of {len(self.mean)} and {len(self.std)} channels")

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels as this project writes them."""
        return tuple(named(label) or label.strip().lower() for label in self.labels)

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return 1 if self.color == "gray" else 3

    def inputs(self, images: np.ndarray) -> np.ndarray:
        """Maps images uint8[N, S, S, 3] RGB to the network's input, float32."""
        if self.color == "gray":
            images = np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in images])[..., None]
        elif self.color == "bgr":
            images = images[..., ::-1]
        low, high = self.range
        scaled = images.astype(np.float32) * ((high - low) / 255) + low
        normalized = (scaled - np.array(self.mean)) / np.array(self.std)
        if self.layout == "NCHW":
            normalized = normalized.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(normalized, np.float32)


def evaluate_foreign(path: Path, split: str, other: OtherData, abstain: float = 0.0) -> ReportPaths:
    """Evaluates an ONNX file and writes the report below `runs`; arguments as of `evaluate`.

    Raises:
      UserError: no data is named, or the model, its description or the data cannot be used.
    """
    if other.name is None:
        raise UserError(f"expected --data with {path}, found none: it has no data set of its own")
    model = ForeignModel.read(path.with_suffix(".json"))
    classify = open_onnx(path, model)
    data = with_all(build.prepare(**other.arguments()))
    margin = model.margin if data.metadata.get("pictures") == "whole" else None
    preprocessing = Preprocessing(model.size, "unit", face_margin=margin)
    described = {"name": "", "crop": FaceCrop(margin=model.margin).to_json()}
    run = Run(Path("runs") / path.stem, None, model.classes, preprocessing, described)  # type: ignore[arg-type]
    reframed = open_framed(run, data, split, other.faces or "whole")
    records = decode_all(reframed.split)
    labels, rows, notes = map_labels(run, records, other.unmapped)
    records = select(records, rows)
    predictions = Predictions(
        ids=records.ids,
        labels=labels,
        probabilities=classify(records.images),
        groups=records.groups,
        label_names=run.labels,
        votes=votes_of(run, data, split, rows, other.unmapped),
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = dataclasses.replace(
        data_card(run.name, data, split, (*notes, *reframed.notes)),
        model=path.name,
        parameters=count_parameters(path),
        weights=f"{model.source or 'unknown source'} (sha256 {digest[:16]})",
        overlap=Overlap(images=len(records), unknown=(run.name,)),
        foreign=True,
        abstain=abstain,
    )
    files.write_text(run.folder / FOREIGN, json.dumps(dataclasses.asdict(model), indent=2) + "\n")
    folder = run.folder / "evaluations" / evaluation_name(data, split)
    attributes = attributes_of(data, split, rows)
    return write_report(folder, predictions, records.images, card, attributes=attributes)


def open_onnx(path: Path, model: ForeignModel) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images uint8[N, S, S, 3] to probabilities float32[N, C].

    Raises:
      UserError: onnxruntime is not installed, cannot read the file, or finds that it does not have
        the described input and output. The function raises it, too.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "expected the package onnxruntime, found none; install fer-jax[onnx]"
        ) from None
    onnxruntime.set_default_logger_severity(4)  # errors are raised; they are not printed as well
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - it raises errors of many types
        raise UserError(f"expected an ONNX model, found {path}: {str(error)[:200]}") from None
    one = session.get_inputs()[0]
    batch = one.shape[0] if isinstance(one.shape[0], int) else _BATCH

    def classify(images: np.ndarray) -> np.ndarray:
        results = [np.zeros((0, len(model.labels)), np.float32)]
        for first in range(0, len(images), batch):
            inputs = model.inputs(images[first : first + batch])
            count = len(inputs)
            if count < batch and isinstance(one.shape[0], int):
                inputs = np.resize(inputs, (batch, *inputs.shape[1:]))  # repeats rows
            output = _run(session, one.name, inputs, path)[:count]
            results.append(_probabilities(output, model, path))
        return np.concatenate(results)

    return classify


def _run(session: Any, name: str, inputs: np.ndarray, path: Path) -> np.ndarray:
    try:
        return np.asarray(session.run(None, {name: inputs})[0], np.float32)
    except Exception as error:  # noqa: BLE001 - it raises errors of many types
        raise UserError(
            f"expected an input of shape {inputs.shape}, as {path.with_suffix('.json').name} says, "
            f"found in {path}: {str(error)[:200]}"
        ) from None


def _probabilities(output: np.ndarray, model: ForeignModel, path: Path) -> np.ndarray:
    """Checks an output float32[B, C] and turns logits to probabilities."""
    if output.ndim != 2 or output.shape[1] != len(model.labels):
        raise UserError(
            f"expected {len(model.labels)} outputs, one for each label in "
            f"{path.with_suffix('.json').name}, found the shape {output.shape} in {path}"
        )
    if model.output == "logits":
        output = np.exp(output - output.max(axis=1, keepdims=True))
        output /= output.sum(axis=1, keepdims=True)
    sums = output.sum(axis=1)
    if not np.isfinite(output).all() or output.min() < 0 or np.abs(sums - 1).max() > 1e-2:
        raise UserError(
            f"expected probabilities, found outputs from {output.min():.3g} to "
            f'{output.max():.3g} in {path}; if they are logits, set "output": "logits"'
        )
    return np.asarray(output / sums[:, None], np.float32)


def count_parameters(path: Path) -> int:
    """Returns the number of weights in an ONNX file; shapes and indices do not count."""
    import onnx

    shapes = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    graph = onnx.load(path, load_external_data=False).graph
    return sum(
        math.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type not in shapes
    )


def _as_field(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _defaults() -> Mapping[str, Any]:
    fields = dataclasses.fields(ForeignModel)
    return {one.name: one.default for one in fields if one.default is not dataclasses.MISSING}
