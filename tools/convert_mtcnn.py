"""Converts MTCNN's weights to the file that the package ships, fer_jax/faces/mtcnn.npz.

    pip download --no-deps facenet-pytorch==2.6.0
    python -m tools.convert_mtcnn facenet_pytorch-2.6.0-py3-none-any.whl

Reads the tensors without running code from the files. Needs the extra `onnx`.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from fer_jax.faces.mtcnn import WEIGHTS
from fer_jax.weights.source import read_source

_LAYERS = {
    "pnet": (("conv1",), ("conv2",), ("conv3",), ("conv4_1", "conv4_2")),
    "rnet": (("conv1",), ("conv2",), ("conv3",), ("dense4",), ("dense5_1", "dense5_2")),
    "onet": (("conv1",), ("conv2",), ("conv3",), ("conv4",), ("dense5",),
             ("dense6_1", "dense6_2", "dense6_3")),
}  # fmt: skip
"""PyTorch's layers. The heads of a network (face or not, box, landmarks) become one layer; their
softmax is left to the caller."""

_POOLS = {"pnet": (2,), "rnet": (3, 3), "onet": (3, 3, 2)}
"""Side of the max pooling after the first layers; strides are 2."""

_SIDES = {"pnet": 12, "rnet": 24, "onet": 48}


def convert(network: str, tensors: Mapping[str, np.ndarray]) -> bytes:
    """Returns a network as an ONNX file: float32[1, 3, S, S] to float32[1, outputs, 1, 1]."""
    nodes, arrays, last = [], {}, "images"
    for number, names in enumerate(_LAYERS[network]):
        kernel = np.concatenate([_kernel(tensors[f"{name}.weight"]) for name in names])
        arrays[f"kernel{number}"] = kernel
        arrays[f"bias{number}"] = np.concatenate([tensors[f"{name}.bias"] for name in names])
        inputs = [last, f"kernel{number}", f"bias{number}"]
        last = f"conv{number}"
        nodes.append(helper.make_node("Conv", inputs, [last], kernel_shape=kernel.shape[2:]))
        if len(names) == 1:
            arrays[f"slope{number}"] = tensors[f"prelu{names[0][-1]}.weight"].reshape(-1, 1, 1)
            nodes.append(helper.make_node("PRelu", [last, f"slope{number}"], [f"prelu{number}"]))
            last = f"prelu{number}"
        if number < len(_POOLS[network]):
            nodes.append(
                helper.make_node(
                    "MaxPool", [last], [f"pool{number}"],
                    kernel_shape=[_POOLS[network][number]] * 2, strides=[2, 2], ceil_mode=1,
                )
            )  # fmt: skip
            last = f"pool{number}"
    side = _SIDES[network]
    graph = helper.make_graph(
        nodes,
        network,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, len(kernel), 1, 1])],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in arrays.items()],
    )
    opset = helper.make_opsetid("", 13)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def _kernel(weight: np.ndarray) -> np.ndarray:
    """Converts a weight to a convolution's kernel, [outputs, inputs, height, width]."""
    if weight.ndim == 4:
        return weight
    outputs, inputs = weight.shape
    if inputs % 9:  # a head, on one pixel
        return weight[:, :, None, None]
    # The first dense layer takes 3x3 pixels, flattened as width, height, channel.
    return weight.reshape(outputs, 3, 3, -1).transpose(0, 3, 2, 1)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path, help="facenet_pytorch-2.6.0-py3-none-any.whl")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    graphs = {}
    with zipfile.ZipFile(options.wheel) as wheel, tempfile.TemporaryDirectory() as folder:
        for network in _LAYERS:
            path = Path(wheel.extract(f"facenet_pytorch/data/{network}.pt", folder))
            file = convert(network, read_source(path).tensors)
            graphs[network] = np.frombuffer(file, np.uint8)
    np.savez(options.out, **graphs)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
