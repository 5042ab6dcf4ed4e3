"""Reads the layers of a network saved by dlib, such as dlib_face_recognition_resnet_model_v1.dat.

dlib writes a network as its loss, the version of every layer from the last to the first, and then
the layers from the first to the last. An integer is a byte with its sign and length, then its
bytes, lowest first; a float is two integers, mantissa and exponent of two; a tensor is its shape
and little-endian float32 numbers. Nothing in the file can run code. This module does not
interpret the layers.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fer_jax.errors import UserError
from fer_jax.weights.keras_h5 import Layer

MAGIC = b"\x01\x01\x01\x0dloss_metric_"
"""Start of a file whose network was trained with dlib's metric loss."""

_LAST_VERSION = 3  # of layers; the names of layers are longer
_PLAIN = {"relu_": 0, "add_prev_": 0, "max_pool_2": 6, "avg_pool_2": 6}
"""Layers without weights, and the number of their integers."""


class _Stream:
    """The file's content and a position in it."""

    def __init__(self, content: bytes) -> None:
        self._content, self._position = content, 0

    @property
    def is_at_end(self) -> bool:
        return self._position == len(self._content)

    def take(self, count: int) -> bytes:
        taken = self._content[self._position : self._position + count]
        if len(taken) < count:
            raise ValueError("it ends within a layer")
        self._position += count
        return taken

    def integer(self) -> int:
        (control,) = self.take(1)
        length = control & 0x0F
        if control & 0x70 or not 1 <= length <= 8:
            raise ValueError(f"an integer starts with the byte {control:#x}")
        value = int.from_bytes(self.take(length), "little")
        return -value if control & 0x80 else value

    def integers(self, count: int) -> tuple[int, ...]:
        return tuple(self.integer() for _ in range(count))

    def number(self) -> float:
        mantissa, exponent = self.integers(2)
        return math.ldexp(mantissa, exponent)

    def name(self) -> str:
        """Reads a layer's name, after the versions of layers that may precede it."""
        length = self.integer()
        while length <= _LAST_VERSION:
            length = self.integer()
        return self.take(length).decode("ascii")

    def shape(self, expected_version: int) -> tuple[int, ...]:
        version, *shape = self.integers(5)
        if version != expected_version or min(shape) < 0:
            raise ValueError(f"a tensor of version {version} and shape {tuple(shape)}")
        return tuple(shape)

    def tensor(self) -> np.ndarray:
        """Reads float32[samples, channels, rows, columns]."""
        shape = self.shape(2)
        return np.frombuffer(self.take(4 * math.prod(shape)), "<f4").reshape(shape)

    def views(self, numbers: np.ndarray, count: int) -> list[np.ndarray]:
        """Reads the shapes of consecutive views of `numbers`, which they must cover."""
        shapes = [self.shape(1) for _ in range(count)]
        sizes = [math.prod(shape) for shape in shapes]
        if sum(sizes) != numbers.size:
            raise ValueError(f"{numbers.size} numbers for views of {sum(sizes)}")
        parts = np.split(numbers.reshape(-1), np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def read_dat(path: Path) -> tuple[Layer, ...]:
    """Returns the layers with weights, from the first to the last.

    They are named con1, affine1, ..., fc1, and hold the arrays of Keras' layers: kernel
    [rows, columns, inputs, outputs] and bias; scale and bias; kernel [inputs, outputs].

    Raises:
      UserError: a damaged file, or a network with other layers.
    """
    stream = _Stream(path.read_bytes())
    layers: list[Layer] = []
    counts = {"con": 0, "affine": 0, "fc": 0}
    try:
        stream.integer()
        stream.name()  # of the loss
        stream.number(), stream.number()  # its margin and threshold
        input_name = stream.name()
        if input_name != "input_rgb_image_sized":
            raise ValueError(f"the input {input_name}")
        _ = [stream.number() for _ in range(3)], stream.integers(2)  # means; rows and columns
        while not stream.is_at_end:
            kind, arrays = _layer(stream)
            if arrays:
                counts[kind] += 1
                layers.append(Layer(f"{kind}{counts[kind]}", arrays))
            stream.take(3)  # whether it is set up, and two more booleans
            for _ in range(3):
                stream.tensor()  # gradients and outputs: empty, unless saved in training
            if len(layers) == 1 and kind == "con":
                stream.integer()  # images per sample, after the first layer only
    except (ValueError, UnicodeDecodeError, OverflowError) as error:
        raise UserError(
            f"expected a complete network of dlib, found {path} truncated, damaged or with other "
            f"layers ({error}); download it again"
        ) from error
    return tuple(layers)


def _layer(stream: _Stream) -> tuple[str, tuple[np.ndarray, ...]]:
    """Reads a layer: its kind, and its arrays."""
    name = stream.name()
    if name in _PLAIN:
        stream.integers(_PLAIN[name])
        return name, ()
    if name == "con_4":
        numbers = stream.tensor()
        stream.integers(7)  # filters, rows, columns, strides, padding
        kernel, bias = stream.views(numbers, 2)
        _ = [stream.number() for _ in range(4)]  # multipliers of learning rate and weight decay
        return "con", (kernel.transpose(2, 3, 1, 0), bias.reshape(-1))
    if name == "affine_":
        numbers = stream.tensor()
        scale, bias = stream.views(numbers, 2)
        stream.integer()  # over channels or all numbers
        return "affine", (scale.reshape(-1), bias.reshape(-1))
    if name == "fc_2":
        stream.integers(2)  # outputs and inputs
        numbers = stream.tensor()
        kernel, _ = stream.views(numbers, 2)  # no bias: an empty view
        stream.integer()  # whether it has a bias
        _ = [stream.number() for _ in range(4)]  # multipliers, as of convolutions
        return "fc", (kernel.reshape(kernel.shape[0], -1),)
    raise ValueError(f"the layer {name[:40]!r}")
