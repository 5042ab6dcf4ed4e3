"""Writes dlib's serialization of networks. tests/parity has dlib itself read it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np


def integer(value: int) -> bytes:
    """A byte with sign and length, then the bytes of the absolute value."""
    length = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([length | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(length, "little")


def integers(*values: int) -> bytes:
    return b"".join(map(integer, values))


def number(value: float) -> bytes:
    mantissa, exponent = math.frexp(value)
    return integers(int(mantissa * 2**53), exponent - 53)


def text(content: str) -> bytes:
    return integer(len(content)) + content.encode()


def tensor(numbers: np.ndarray) -> bytes:
    return integers(2, 1, 1, 1, numbers.size) + numbers.astype("<f4").tobytes()


def view(*shape: int) -> bytes:
    return integers(1, *shape)


def con(kernel: np.ndarray, bias: np.ndarray, stride: int = 1) -> bytes:
    """A convolution of kernel [filters, channels, rows, columns]."""
    filters, _, rows, columns = kernel.shape
    padding = rows // 2 if stride == 1 else 0
    return (
        text("con_4")
        + tensor(np.concatenate([kernel.reshape(-1), bias]))
        + integers(filters, rows, columns, stride, stride, padding, padding)
        + view(*kernel.shape)
        + view(1, filters, 1, 1)
        + number(1.0) * 4
    )


def affine(scale: np.ndarray, bias: np.ndarray) -> bytes:
    shape = view(1, len(scale), 1, 1)
    return text("affine_") + tensor(np.concatenate([scale, bias])) + shape + shape + integer(0)


def fc(kernel: np.ndarray) -> bytes:
    """A dense layer without bias, of kernel [inputs, outputs]."""
    inputs, outputs = kernel.shape
    return (
        text("fc_2")
        + integers(outputs, inputs)
        + tensor(kernel.reshape(-1))
        + view(inputs, outputs, 1, 1)
        + view(0, 0, 0, 0)
        + integer(1)
        + number(1.0) * 4
    )


def pool(kind: str, side: int, stride: int) -> bytes:
    return text(f"{kind}_pool_2") + integers(side, side, stride, stride, 0, 0)


def network(layers: Sequence[bytes], versions: Iterable[int]) -> bytes:
    """A whole file.

    Args:
      layers: from the first, a convolution, to the last.
      versions: of the layers and tags, from the last to the first.
    """
    rest = b"110" + integers(2, 0, 0, 0, 0) * 3
    means = b"".join(map(number, (122.782, 117.001, 104.298)))
    image = text("input_rgb_image_sized") + means + integers(150, 150)
    bodies = [layer + rest for layer in layers]
    bodies[0] += integer(1)
    loss = integer(1) + text("loss_metric_2") + number(0.04) + number(0.6)
    return loss + integers(*versions) + image + b"".join(bodies)


def face_resnet(arrays: Iterator[tuple[np.ndarray, ...]], fc_kernel: np.ndarray) -> bytes:
    """The face ResNet.

    Args:
      arrays: kernel and bias, scale and bias of each unit in turn, as `con` and `affine` take them.
      fc_kernel: of the face descriptor.
    """
    relu = text("relu_")
    layers = [con(*next(arrays), stride=2), affine(*next(arrays)), relu, pool("max", 3, 2)]
    versions = [2, 2, 2, 3]  # of the stem
    for depth, is_first in ((3, True), (4, False), (3, False), (3, False), (1, False)):
        for block in range(depth):
            stride = 2 if block == 0 and not is_first else 1
            layers += [con(*next(arrays), stride=stride), affine(*next(arrays)), relu]
            layers += [con(*next(arrays)), affine(*next(arrays))]
            shortcut = [pool("avg", 2, 2)] * (stride == 2)
            layers += [*shortcut, text("add_prev_"), relu]
            # relu, add_prev; average pooling, skip, tag; the units; tag.
            versions = [2, 2, *[2, 1, 1] * len(shortcut), 2, 2, 2, 2, 2, 1, *versions]
    return network([*layers, pool("avg", 0, 1), fc(fc_kernel)], [2, 2, *versions])
