"""Layer tables of ResNet-18 and ResNet-50 for the weight files of torchvision and timm.

Both use the same names. Keras' ResNet50 is a different network, so its files are rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fer_jax.weights.layout import TORCH, Conv, Norm, Table

_NO_KERAS = (
    "Keras has no such network: its ResNet50 strides in a block's first convolution, has biases "
    "before BatchNorm, and uses another BatchNorm epsilon"
)


def _unit(path: str, conv: str, norm: str) -> Iterator[Conv | Norm]:
    yield Conv(f"backbone/{path}/conv", conv, bias=False)
    yield Norm(f"backbone/{path}/bn", norm, f"backbone/{path}/conv", scaled=True)


def _layers(depths: Sequence[int], units: int) -> Iterator[Conv | Norm]:
    yield from _unit("stem", "conv1", "bn1")
    for layer, depth in enumerate(depths, 1):
        for block in range(depth):
            path, torch = f"layer{layer}_{block + 1}", f"layer{layer}.{block}"
            for unit in range(1, units + 1):
                yield from _unit(f"{path}/unit{unit}", f"{torch}.conv{unit}", f"{torch}.bn{unit}")
            # Only if the shapes differ, which they do not in ResNet-18's first layer.
            if block == 0 and (layer > 1 or units == 3):
                down = f"{torch}.downsample"
                yield from _unit(f"{path}/shortcut", f"{down}.0", f"{down}.1")


RESNET18, RESNET50 = (
    Table(
        model=model,
        layers=tuple(_layers(depths, units)),
        formats={"pytorch": TORCH},
        torch_tops=("fc.",),
        no_keras=_NO_KERAS,
    )
    for model, depths, units in (("resnet18", (2, 2, 2, 2), 2), ("resnet50", (3, 4, 6, 3), 3))
)
