"""Where VGG16's layers lie in the files of Keras, torchvision and timm.

Keras names block1_conv1, ...; torchvision and timm number a sequence in which ReLU and
pooling count too. The order is the same in all: VGG has no branches.
"""

from __future__ import annotations

from collections.abc import Iterator

from fer_jax.weights.layout import CAFFE, TORCH, Conv, Table

_DEPTHS = (2, 2, 3, 3, 3)


def _convs() -> Iterator[Conv]:
    place = 0
    for block, depth in enumerate(_DEPTHS, 1):
        for layer in range(1, depth + 1):
            yield Conv(f"backbone/block{block}_conv{layer}", f"features.{place}", bias=True)
            place += 2  # the convolution and its ReLU
        place += 1  # the pooling


TABLE = Table(
    model="vgg16",
    layers=tuple(_convs()),
    formats={"keras": CAFFE, "pytorch": TORCH},
    torch_tops=("classifier.", "pre_logits.", "head."),
)
