"""ONNX files: written with their metadata, made smaller, run by ONNX Runtime.

Needs the extra `onnx` (onnx and onnxruntime). The translation is `onnx_graph`'s.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.export import onnx_graph
from fer_jax.export.program import (
    INPUT,
    OUTPUT,
    make_program,
    symbolic_faces,
)
from fer_jax.inference.network import Network

METADATA = "fer_jax"
"""Key of the metadata in the file, a JSON document; `labels` has one of its own."""

MOST_BYTES = 2**31 - 1  # of a protocol buffer

_CALIBRATION_BATCH = 16
_LAYERS = ("Conv", "MatMul", "Gemm")  # the quantizer makes a Gemm of MatMul and Add


def check_installed() -> None:
    """Refuses to begin without the packages.

    Raises:
      UserError: with the command that installs them.
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
    """The network as an ONNX model in float32.

    Raises:
      UserError: it has an operation that is not translated, or is too large.
    """
    variables = jax.device_get(network.variables)
    try:
        model = onnx_graph.translate(
            make_program(network), variables, symbolic_faces(network), INPUT, OUTPUT
        )
    except onnx_graph.UnsupportedError as error:
        raise UserError(
            f"expected a network that can be translated to ONNX, found: {error}; "
            "export it with --format stablehlo"
        ) from None
    if model.ByteSize() > MOST_BYTES:
        raise UserError(
            f"expected a network of at most 2 GiB, found {model.ByteSize():,} bytes; "
            "export it with --format stablehlo"
        )
    return model


def to_float16(model: Any) -> Any:
    """The model with weights and maps in half precision; input and output stay as they are.

    Normalisation and softmax keep float32: sums over pixels pass what half precision holds.
    (ONNX Runtime's own converter casts what lies between two such nodes to half and back.)
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
    kept = [weight for weight in halved.graph.initializer if weight.name in used]
    halved.graph.ClearField("initializer")
    halved.graph.initializer.extend([*kept, *halver.weights])
    onnx.checker.check_model(halved, full_check=True)
    return halved


def to_int8(model: Any, calibration: np.ndarray) -> Any:
    """The model with convolutions and products in 8 bits, scales measured on pictures.

    Args:
      model: in float32.
      calibration: uint8[N, S, S, 3] faces, of training or validation.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, small = (str(Path(folder) / f"{name}.onnx") for name in "abc")
        onnx.save(model, plain)
        _quietly(
            lambda: shape_inference.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        )
        _quietly(
            lambda: quantization.quantize_static(
                prepared,
                small,
                _Calibration(calibration),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_LAYERS),
                nodes_to_exclude=_outside_the_layers(onnx.load(prepared)),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                # Fails on dense layers with a scale for each class.
                extra_options={"QDQDisableWeightAdjustForInt32Bias": True},
            )
        )
        return onnx.load(small)


def write(path: Path, model: Any, metadata: dict[str, Any]) -> Path:
    """Writes the model with its metadata."""
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
    """What a file says of faces uint8[N, S, S, 3], by ONNX Runtime on the CPU: float32[N, C]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    said = [
        session.run([OUTPUT], {INPUT: faces[at : at + batch]})[0]
        for at in range(0, len(faces), batch)
    ]
    return np.concatenate(said)


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
    """Gives the nodes of a model inputs of the type that is theirs."""

    def __init__(self, model: Any) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._types, self._helper, self._numpy_helper = TensorProto, helper, numpy_helper
        self._stored = {weight.name: weight for weight in model.graph.initializer}
        self._is_half: dict[str, bool] = {}  # of what nodes computed so far
        self._made: set[str] = set()
        self.weights: list[Any] = []

    def casts(self, node: Any, *, inside: bool) -> list[Any]:
        """Renames the inputs of `node` to ones of its type; the nodes that make those."""
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
    """Positions of the first layer's node and of the last one's bias."""
    operators = [node.op_type for node in model.graph.node]
    layers = [at for at, operator in enumerate(operators) if operator in _LAYERS]
    return layers[0], layers[-1] + 1


def _outside_the_layers(model: Any) -> list[str]:
    """Names of the nodes before the first layer and behind the last one's bias."""
    first, last = _layers(model)
    return [node.name for at, node in enumerate(model.graph.node) if not first <= at <= last]


def _quietly(action: Any) -> None:
    """Runs `action` without the quantizer's advice, which is for those who call it by hand."""
    root = logging.getLogger()
    before: Sequence[Any] = (root.level,)
    root.setLevel(logging.ERROR)
    try:
        action()
    finally:
        root.setLevel(before[0])
