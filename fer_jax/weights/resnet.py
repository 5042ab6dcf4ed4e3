"""Layer tables of the ResNets for the weight files of torchvision, timm and VGGFace2-pytorch.

All use the same names. Keras' ResNet50 is a different network, so its files are rejected. So are
VGGFace2's for `resnet50`, and torchvision's for `resnet50_caffe`: names and shapes are the same,
strides are not. Its files are told by their kind, a pickle of NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fer_jax.weights.layout import TORCH, VGGFACE2, Conv, Norm, Table

_NO_KERAS = (
    "Keras has no such network: its ResNet50 strides in a block's first convolution, has biases "
    "before BatchNorm, and uses another BatchNorm epsilon"
)


def _unit(path: str, conv: str, norm: str) -> Iterator[Conv | Norm]:
    yield Conv(f"backbone/{path}/conv", conv, bias=False)
    yield Norm(f"backbone/{path}/bn", norm, f"backbone/{path}/conv", scaled=True)


def _layers(
    depths: Sequence[int], units: int, has_excitation: bool = False
) -> Iterator[Conv | Norm]:
    yield from _unit("stem", "conv1", "bn1")
    for layer, depth in enumerate(depths, 1):
        for block in range(depth):
            path, torch = f"layer{layer}_{block + 1}", f"layer{layer}.{block}"
            for unit in range(1, units + 1):
                yield from _unit(f"{path}/unit{unit}", f"{torch}.conv{unit}", f"{torch}.bn{unit}")
            if has_excitation:
                for name, conv in (("squeeze", "conv4"), ("excite", "conv5")):
                    yield Conv(f"backbone/{path}/excitation/{name}", f"{torch}.{conv}", bias=True)
            # Only if the shapes differ, which they do not in ResNet-18's first layer.
            if block == 0 and (layer > 1 or units == 3):
                down = f"{torch}.downsample"
                yield from _unit(f"{path}/shortcut", f"{down}.0", f"{down}.1")


RESNET18, RESNET50 = (
    Table(
        model=model,
        layers=tuple(_layers(depths, units)),
        formats={"pytorch": TORCH},
        torch_tops=("fc.", "feature."),  # the classifier, and the face descriptor of DREAM's files
        no_keras=_NO_KERAS,
    )
    for model, depths, units in (("resnet18", (2, 2, 2, 2), 2), ("resnet50", (3, 4, 6, 3), 3))
)
RESNET50_CAFFE, SENET50 = (
    Table(
        model=model,
        layers=tuple(_layers((3, 4, 6, 3), 3, has_excitation)),
        formats={"numpy": VGGFACE2},
        torch_tops=("fc.",),
        no_keras=_NO_KERAS,
    )
    for model, has_excitation in (("resnet50_caffe", False), ("senet50", True))
)
