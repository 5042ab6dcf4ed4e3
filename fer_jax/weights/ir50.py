"""Layer table of IR-50 for the weight files of face.evoLVe.

Their last layers, dropout and the face descriptor's dense layer and BatchNorm, are not in our
network. They number the layers of a unit by the position in a `Sequential`.
"""

from __future__ import annotations

from collections.abc import Iterator

from fer_jax.models.ir50 import DEPTHS
from fer_jax.weights.layout import INCEPTION, Conv, Layer, Norm, PReLU, Table


def _sequence(path: str, torch: str, *names: str) -> Iterator[Layer]:
    """Yields the layers of a `Sequential`; their names in fer_jax tell convolutions and PReLUs."""
    for index, name in enumerate(names):
        arguments = f"backbone/{path}/{name}", f"{torch}.{index}"
        if "conv" in name:
            yield Conv(*arguments, bias=False)
        else:
            yield PReLU(*arguments) if name == "prelu" else Norm(*arguments, scaled=True)


def _layers() -> Iterator[Layer]:
    yield from _sequence("stem", "input_layer", "conv", "bn", "prelu")
    blocks = [(layer, block) for layer, depth in enumerate(DEPTHS, 1) for block in range(depth)]
    for index, (layer, block) in enumerate(blocks):
        path, torch = f"layer{layer}_{block + 1}", f"body.{index}"
        yield from _sequence(path, f"{torch}.res_layer", "bn1", "conv1", "prelu", "conv2", "bn2")
        # Only if the number of channels changes, which it does not in the first layer.
        if block == 0 and layer > 1:
            yield from _sequence(path, f"{torch}.shortcut_layer", "shortcut_conv", "shortcut_bn")
    yield Norm("backbone/norm", "output_layer.0", scaled=True)


TABLE = Table(
    model="ir50",
    layers=tuple(_layers()),
    formats={"pytorch": INCEPTION},
    torch_tops=("output_layer.3.", "output_layer.4."),
)
