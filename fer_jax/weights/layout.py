"""Types of a layer table: the name of each layer of a network in each file layout.

vgg16.py, inception_resnet_v2.py, resnet.py, face_resnet.py and ir50.py define the tables; port.py
matches files to them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from fer_jax.data.preprocess import InputFormat

CAFFE = InputFormat("bgr", 1.0, (103.939, 116.779, 123.68))
"""Keras' `preprocess_input` mode "caffe": 0..255 minus the ImageNet means."""
TORCH = InputFormat("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""torchvision's input: [0, 1], normalized by the ImageNet means and standard deviations."""
INCEPTION = InputFormat("rgb", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Keras' mode "tf", and timm's Inception constants: [-1, 1]."""
DLIB = InputFormat("rgb", 1 / 256, (122.782 / 256, 117.001 / 256, 104.298 / 256))
"""dlib's `input_rgb_image_sized`: 0..255 minus the means of its faces, over 256."""
VGGFACE2 = InputFormat("bgr", 1.0, (91.4953, 103.8827, 131.0912))
"""0..255 minus the means of VGGFace2 (`mean_bgr` in datasets/vgg_face2.py of VGGFace2-pytorch)."""


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution.

    Attributes:
      path: of its parameters in fer_jax, such as "backbone/stem1/conv".
      torch: prefix of its names in a PyTorch file, such as "conv2d_1a.conv".
      bias: whether it has a bias.
    """

    path: str
    torch: str
    bias: bool


@dataclasses.dataclass(frozen=True)
class Norm:
    """A BatchNorm.

    Attributes:
      path: of its parameters in fer_jax, such as "backbone/stem1/bn".
      torch: prefix of its names in a PyTorch file.
      conv: path of the convolution whose output it normalizes; it has no bias. Needed only for
        files of dlib, and if not `scaled`.
      scaled: whether it has a scale in fer_jax; if not, a file's scale is folded into `conv`.
      is_affine: whether it is dlib's affine layer, which has a scale and a bias but no statistics.
    """

    path: str
    torch: str
    conv: str = ""
    scaled: bool = False
    is_affine: bool = False


@dataclasses.dataclass(frozen=True)
class PReLU:
    """The slopes of a PReLU, one a channel.

    Attributes:
      path: of its parameters in fer_jax.
      torch: prefix of its name in a PyTorch file.
    """

    path: str
    torch: str


Layer = Conv | Norm | PReLU


@dataclasses.dataclass(frozen=True)
class Table:
    """The layers of a network's backbone in each file layout.

    Attributes:
      model: name of the network.
      layers: the layers with weights. If Keras has the network, in the order of Keras'
        `Model.layers`, which legacy files and the layer numbers of Keras 3 files follow.
      formats: the input that the weights expect, by library: "keras", "pytorch", "numpy"
        (VGGFace2-pytorch) and "dlib".
      torch_tops: prefixes of the names in a PyTorch file that are not in the backbone.
      no_keras: why files from Keras cannot be ported, if so.
    """

    model: str
    layers: tuple[Layer, ...]
    formats: Mapping[str, InputFormat]
    torch_tops: tuple[str, ...] = ()
    no_keras: str = ""
