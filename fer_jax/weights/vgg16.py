"""Layer table of VGG16 for the weight files of Keras, torchvision and timm.

Keras names the layers block1_conv1, ...; torchvision and timm number a sequence that also
contains the ReLU and pooling layers. All have the same order, because VGG has no branches.
"""

from __future__ import annotations

from collections.abc import Iterator

from fer_jax.weights.layout import CAFFE, TORCH, Conv, Table

_DEPTHS = (2, 2, 3, 3, 3)


def _convs() -> Iterator[Conv]:
    index = 0
    for block, depth in enumerate(_DEPTHS, 1):
        for layer in range(1, depth + 1):
            yield Conv(f"backbone/block{block}_conv{layer}", f"features.{index}", bias=True)
            index += 2  # the convolution and its ReLU
        index += 1  # the pooling


TABLE = Table(
    model="vgg16",
    layers=tuple(_convs()),
    formats={"keras": CAFFE, "pytorch": TORCH},
    torch_tops=("classifier.", "pre_logits.", "head."),
)
