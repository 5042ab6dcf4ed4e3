"""Layer table of the face ResNet for dlib_face_recognition_resnet_model_v1.dat.

The file stores the layers in the order of the network, without names of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

from fer_jax.models.face_resnet import LAYERS
from fer_jax.weights.layout import DLIB, Conv, Norm, Table


def _units() -> Iterator[str]:
    yield "stem"
    for layer, (_, depth) in enumerate(LAYERS, 1):
        for block in range(1, depth + 1):
            yield from (f"layer{layer}_{block}/unit1", f"layer{layer}_{block}/unit2")


def _layers() -> Iterator[Conv | Norm]:
    for unit in _units():
        conv = f"backbone/{unit}/conv"
        yield Conv(conv, "", bias=False)
        yield Norm(f"backbone/{unit}/affine", "", conv, scaled=True, is_affine=True)


TABLE = Table(model="face_resnet", layers=tuple(_layers()), formats={"dlib": DLIB})
