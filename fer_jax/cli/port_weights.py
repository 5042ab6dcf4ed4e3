"""Ports the weights that others trained to one of our networks.

    fer-jax port-weights SOURCE --model vgg16 --out vgg16.safetensors

SOURCE is a file of Keras (.h5, .weights.h5, .keras), PyTorch (.pth), safetensors with torchvision's
or timm's names, VGGFace2-pytorch (.pkl) or dlib (.dat). The result is for
--config.model.pretrained. Nothing is downloaded, and no code in the file is run.

    fer-jax port-weights resnet50_ft_weight.pkl --preset vggface2_resnet50 --out face.safetensors

A preset names a published file: its network, and the pixels that its network expects.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_jax.errors import UserError
from fer_jax.files import local_path


def main(arguments: Sequence[str]) -> None:
    """The command line.

    Raises:
      UserError: a file that cannot be ported.
    """
    parser = argparse.ArgumentParser(
        prog="fer-jax port-weights",
        description=(__doc__ or "").split("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument(
        "source", type=local_path, help="weight file of Keras, PyTorch, timm, VGGFace2 or dlib"
    )
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument(
        "--model",
        help="vgg16, inception_resnet_v2, resnet18, resnet50, resnet50_caffe, senet50, ir50 or "
        "face_resnet",
    )
    network.add_argument(
        "--preset",
        help="msceleb_resnet18, dream_resnet18, vggface2_resnet50, vggface2_senet50 or ms1m_ir50",
    )
    parser.add_argument(
        "--out", required=True, type=local_path, help="file to write (.safetensors)"
    )
    options = parser.parse_args(arguments)
    if options.out.suffix != ".safetensors":
        raise UserError(
            f"expected --out FILE.safetensors, found {options.out}; the port is safetensors"
        )

    # JAX and the networks take seconds to import: wrong flags are answered before.
    from fer_jax.weights import port

    if options.preset is None:
        ported = port.port(options.source, options.model)
    else:
        ported = port.port_preset(options.source, options.preset)
    for line in port.describe(ported):
        print(line)
    print(ported.write(options.out))
