"""ONNX files: conversion, float16 and int8 variants, and inference with ONNX Runtime.

Needs the extra `onnx` (onnx and onnxruntime). The translation itself is in `inference.program`.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.inference import onnx_graph
from fer_jax.inference.network import Network
from fer_jax.inference.program import INPUT, to_onnx

METADATA = "fer_jax"
"""Key of the JSON metadata in the file; the labels are also stored under `labels`."""

MAX_BYTES = 2**31 - 1  # limit of a protocol buffer

_CALIBRATION_BATCH = 16
_LAYERS = ("Conv", "MatMul", "Gemm")  # the quantizer merges MatMul and Add into Gemm


def check_installed() -> None:
    """Checks that onnx and onnxruntime are installed.

    Raises:
      UserError: one is missing; the message has the command that installs it.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"expected the packages onnx and onnxruntime, found no {error.name}; install them "
            "with: pip install 'fer-jax[onnx]' (or export with --format stablehlo)"
        ) from None


def export(network: Network) -> Any:
    """Converts the network to an ONNX model in float32.

    Raises:
      UserError: an operation has no translation, or the model is larger than 2 GiB.
    """
    try:
        model = to_onnx(network)
    except onnx_graph.UnsupportedError as error:
        raise UserError(
            f"expected a network that can be translated to ONNX, found: {error}; "
            "export it with --format stablehlo"
        ) from None
    if model.ByteSize() > MAX_BYTES:
        raise UserError(
            f"expected a network of at most 2 GiB, found {model.ByteSize():,} bytes; "
            "export it with --format stablehlo"
        )
    return model


def to_float16(model: Any) -> Any:
    """Converts weights and activations to float16; the input and output types do not change.

    Nodes before the first layer and after the last one stay float32, because the normalization's
    sums over pixels overflow float16. (ONNX Runtime's own converter inserts casts to float16 and
    back between two such nodes.)
    """
    import onnx

    halved = type(model)()
    halved.CopyFrom(model)
    first, last = _layers(halved)
    halver = _Halver(halved)
    nodes: list[Any] = []
    for at, node in enumerate(halved.graph.node):
        nodes += halver.casts(node, inside=first <= at <= last)
        nodes.append(node)
    halved.graph.ClearField("node")
    halved.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    float_weights = [weight for weight in halved.graph.initializer if weight.name in used]
    halved.graph.ClearField("initializer")
    halved.graph.initializer.extend([*float_weights, *halver.weights])
    onnx.checker.check_model(halved, full_check=True)
    return halved


def to_int8(model: Any, calibration: np.ndarray) -> Any:
    """Quantizes convolutions and matrix products to int8, with scales measured on images.

    Args:
      model: the float32 model.
      calibration: uint8[N, S, S, 3] faces of the training or validation split.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    with tempfile.TemporaryDirectory() as folder:
        original, prepared, quantized = (str(Path(folder) / f"{name}.onnx") for name in "abc")
        onnx.save(model, original)
        _run_quietly(
            lambda: shape_inference.quant_pre_process(original, prepared, skip_symbolic_shape=True)
        )
        _run_quietly(
            lambda: quantization.quantize_static(
                prepared,
                quantized,
                _Calibration(calibration),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_LAYERS),
                nodes_to_exclude=_nodes_outside_layers(onnx.load(prepared)),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                # The adjustment fails on dense layers with per-channel scales.
                extra_options={"QDQDisableWeightAdjustForInt32Bias": True},
            )
        )
        return onnx.load(quantized)


def write(path: Path, model: Any, metadata: dict[str, Any]) -> Path:
    """Writes the model and its metadata."""
    import onnx

    entries = {METADATA: json.dumps(metadata), "labels": ",".join(metadata["labels"])}
    onnx.helper.set_model_props(model, entries)
    model.doc_string = (
        f"Facial expressions: {metadata['input']['type']} RGB faces to "
        f"{metadata['output']['type']} probabilities of {', '.join(metadata['labels'])}"
    )
    onnx.checker.check_model(model)
    return files.write_bytes(path, model.SerializeToString())


def run(path: Path, faces: np.ndarray, batch: int) -> np.ndarray:
    """Runs a file on faces uint8[N, S, S, 3] with ONNX Runtime's CPU provider.

    Returns the outputs side by side, float32[N, C + E].
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results = [
        np.concatenate(session.run(None, {INPUT: faces[at : at + batch]}), axis=1)
        for at in range(0, len(faces), batch)
    ]
    return np.concatenate(results)


class _Calibration:
    """Feeds faces in batches to the quantizer."""

    def __init__(self, faces: np.ndarray) -> None:
        starts = range(0, len(faces), _CALIBRATION_BATCH)
        self._batches = iter([faces[at : at + _CALIBRATION_BATCH] for at in starts])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


class _Halver:
    """Casts node inputs to float16 or float32, and converts weights to float16."""

    def __init__(self, model: Any) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._types, self._helper, self._numpy_helper = TensorProto, helper, numpy_helper
        self._stored = {weight.name: weight for weight in model.graph.initializer}
        self._is_half: dict[str, bool] = {}  # by output name of the nodes so far
        self._made: set[str] = set()
        self.weights: list[Any] = []

    def casts(self, node: Any, *, inside: bool) -> list[Any]:
        """Points the inputs of `node` at values of its type; returns the Cast nodes that needs."""
        added = []
        for place, name in enumerate(node.input):
            stored = self._stored.get(name)
            if stored is not None:
                if inside and stored.data_type == self._types.FLOAT:
                    node.input[place] = self._halved(name)
            elif name in self._is_half and self._is_half[name] != inside:
                kind, suffix = (
                    (self._types.FLOAT16, "half") if inside else (self._types.FLOAT, "float")
                )
                node.input[place] = cast = f"{name}_{suffix}"
                if cast not in self._made:
                    self._made.add(cast)
                    added.append(self._helper.make_node("Cast", [name], [cast], to=kind))
        self._is_half.update(dict.fromkeys(node.output, inside))
        return added

    def _halved(self, name: str) -> str:
        half = f"{name}_half"
        if half not in self._made:
            self._made.add(half)
            array = self._numpy_helper.to_array(self._stored[name]).astype(np.float16)
            self.weights.append(self._numpy_helper.from_array(array, half))
        return half


def _layers(model: Any) -> tuple[int, int]:
    """Returns the positions of the first layer's node and of the last layer's bias node."""
    operators = [node.op_type for node in model.graph.node]
    layers = [at for at, operator in enumerate(operators) if operator in _LAYERS]
    return layers[0], layers[-1] + 1


def _nodes_outside_layers(model: Any) -> list[str]:
    """Returns the names of the nodes before the first layer and after the last layer's bias."""
    first, last = _layers(model)
    return [node.name for at, node in enumerate(model.graph.node) if not first <= at <= last]


def _run_quietly(action: Callable[[], object]) -> None:
    """Runs `action` without the warnings that the quantizer logs on the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        action()
    finally:
        root.setLevel(level)
