"""How a network's layers lie in files of each kind: what a network's table has to state.

A network's own file (vgg16.py, inception_resnet_v2.py, resnet.py) makes the table; matching a
file to it is port.py's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from fer_jax.data.preprocess import InputFormat

CAFFE = InputFormat("bgr", 1.0, (103.939, 116.779, 123.68))
"""Keras' `preprocess_input` of mode "caffe": 0..255, means of ImageNet."""
TORCH = InputFormat("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""torchvision's: [0, 1], means and deviations of ImageNet."""
INCEPTION = InputFormat("rgb", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Keras' mode "tf" and timm's Inception constants: [-1, 1]."""


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution.

    Attributes:
      path: of its parameters here, such as "backbone/stem1/conv".
      torch: its prefix in a PyTorch file, such as "conv2d_1a.conv".
      bias: whether it has one.
    """

    path: str
    torch: str
    bias: bool


@dataclasses.dataclass(frozen=True)
class Norm:
    """A BatchNorm.

    Attributes:
      path: of its parameters here, such as "backbone/stem1/bn".
      torch: its prefix in a PyTorch file.
      conv: path of the convolution, without bias, whose output it normalises.
      scaled: whether ours has a scale; else a file's is folded into the convolution.
    """

    path: str
    torch: str
    conv: str
    scaled: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Where each layer of a network's backbone lies.

    Attributes:
      model: name of the network.
      layers: its layers with weights; where Keras has the network, in the order of Keras'
        `Model.layers`, which is that of legacy files and of the numbers in Keras 3's.
      formats: the input that published weights expect, by kind: "keras" and "pytorch".
      torch_tops: prefixes of what a PyTorch file has besides the backbone.
      no_keras: why a file of Keras is not for this network, if none is.
    """

    model: str
    layers: tuple[Conv | Norm, ...]
    formats: Mapping[str, InputFormat]
    torch_tops: tuple[str, ...]
    no_keras: str = ""
