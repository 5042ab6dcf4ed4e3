"""Layer table of InceptionResNetV2 for the weight files of Keras and timm.

Keras orders layers by their distance from the network's output, not by creation. Units of
different branches that are equally far from the end of their block are adjacent, so a shorter
branch starts later. Because branches share shapes, a wrong order would pass every shape check
and give a network with useless features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fer_jax.weights.layout import INCEPTION, Conv, Norm, Table

_STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a")

# Number of units in each branch; number of blocks; timm's name of their sequence.
_RESIDUAL = {
    "block35": ((1, 2, 3), 10, "repeat"),
    "block17": ((1, 3), 20, "repeat_1"),
    "block8": ((1, 3), 10, "repeat_2"),
}

_Unit = tuple[str, str]
"""A unit's path in fer_jax and its prefix in timm."""


def _branches(path: str, torch: str, lengths: Sequence[int]) -> list[list[_Unit]]:
    return [
        [
            (
                f"{path}/branch{branch}_{unit}",
                # timm uses a sequence only for more than one unit.
                f"{torch}.branch{branch - 1}" + (f".{unit - 1}" if length > 1 else ""),
            )
            for unit in range(1, length + 1)
        ]
        for branch, length in enumerate(lengths, 1)
    ]


def _by_depth(branches: Sequence[Sequence[_Unit]]) -> Iterator[Conv | Norm]:
    """Yields the units of branches in Keras' order: farthest from the branches' end first."""
    for distance in range(max(map(len, branches)), 0, -1):
        level = [branch[-distance] for branch in branches if len(branch) >= distance]
        # All convolutions at this distance, then their BatchNorms.
        yield from (Conv(f"{path}/conv", f"{torch}.conv", bias=False) for path, torch in level)
        yield from (Norm(f"{path}/bn", f"{torch}.bn", f"{path}/conv") for path, torch in level)


def _mixed(name: str, lengths: Sequence[int]) -> Iterator[Conv | Norm]:
    return _by_depth(_branches(f"backbone/{name}", name, lengths))


def _residual(name: str) -> Iterator[Conv | Norm]:
    lengths, count, repeat = _RESIDUAL[name]
    for number in range(1, count + 1):
        # In timm the last block, which has no ReLU, is outside the sequence.
        last = name == "block8" and number == count
        torch = "block8" if last else f"{repeat}.{number - 1}"
        path = f"backbone/{name}_{number}"
        yield from _by_depth(_branches(path, torch, lengths))
        yield Conv(f"{path}/up", f"{torch}.conv2d", bias=True)


def _layers() -> Iterator[Conv | Norm]:
    for number, torch in enumerate(_STEM, 1):
        yield from _by_depth([[(f"backbone/stem{number}", torch)]])
    mixed_5b = _branches("backbone/mixed_5b", "mixed_5b", (1, 2, 3, 1))
    # The fourth branch starts with a pooling, which counts in timm's sequence.
    mixed_5b[3] = [("backbone/mixed_5b/branch4_1", "mixed_5b.branch3.1")]
    yield from _by_depth(mixed_5b)
    yield from _residual("block35")
    yield from _mixed("mixed_6a", (1, 3))
    yield from _residual("block17")
    yield from _mixed("mixed_7a", (2, 2, 3))
    yield from _residual("block8")
    yield from _by_depth([[("backbone/conv_7b", "conv2d_7b")]])


TABLE = Table(
    model="inception_resnet_v2",
    layers=tuple(_layers()),
    formats={"keras": INCEPTION, "pytorch": INCEPTION},
    torch_tops=("classif.", "last_linear."),
)
