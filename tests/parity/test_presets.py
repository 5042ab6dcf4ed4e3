"""Ported face-recognition weights give PyTorch's features, from files in their published form.

The weights are random. The networks are written here as functions of PyTorch's operations, after
the code of the projects that `fer_jax.weights.presets` names.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.registry import create_model
from fer_jax.weights.port import port_preset

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
IMAGES = 2


class Network:
    """PyTorch's layers by name. Their weights are drawn when they are first used."""

    def __init__(self, torch, random_weight: Callable[..., np.ndarray]) -> None:
        self.torch, self.F = torch, torch.nn.functional
        self.state: dict[str, np.ndarray] = {}
        self.random_weight = random_weight

    def weight(self, name: str, *shape: int):
        if name not in self.state:
            self.state[name] = self.random_weight(name, shape, len(self.state))
            # Else gates are steps from 0 to 1, and PyTorch's float32 and float64 differ by 1e-2.
            if name.endswith(("conv4.weight", "conv5.weight")):
                self.state[name] *= np.float32(0.02)
        return self.torch.tensor(self.state[name])

    def conv(self, x, name: str, filters: int, kernel: int, stride: int = 1, bias: bool = False):
        weight = self.weight(f"{name}.weight", filters, x.shape[1], kernel, kernel)
        offset = self.weight(f"{name}.bias", filters) if bias else None
        return self.F.conv2d(x, weight, offset, stride, kernel // 2)

    def norm(self, x, name: str):
        roles = ("running_mean", "running_var", "weight", "bias")
        return self.F.batch_norm(x, *(self.weight(f"{name}.{role}", x.shape[1]) for role in roles))

    def prelu(self, x, name: str):
        return self.F.prelu(x, self.weight(f"{name}.weight", x.shape[1]))

    def resnet_block(self, x, name: str, width: int, stride: int, style: str):
        """`style` is "basic" (torchvision), "caffe" or "se"."""
        plan = [(width, 1, stride), (width, 3, 1), (4 * width, 1, 1)]
        if style == "basic":
            plan = [(width, 3, stride), (width, 3, 1)]
        y = x
        for number, unit in enumerate(plan, 1):
            y = self.norm(self.conv(y, f"{name}.conv{number}", *unit), f"{name}.bn{number}")
            y = self.F.relu(y) if number < len(plan) else y
        if style == "se":
            squeezed = self.F.avg_pool2d(y, kernel_size=y.shape[2])
            squeezed = self.F.relu(self.conv(squeezed, f"{name}.conv4", width // 4, 1, bias=True))
            squeezed = self.conv(squeezed, f"{name}.conv5", 4 * width, 1, bias=True)
            y = self.torch.sigmoid(squeezed) * y
        if y.shape != x.shape:
            x = self.conv(x, f"{name}.downsample.0", y.shape[1], 1, stride)
            x = self.norm(x, f"{name}.downsample.1")
        return self.F.relu(x + y)

    def resnet(self, x, depths: tuple[int, ...], style: str):
        x = self.F.relu(self.norm(self.conv(x, "conv1", 64, 7, 2), "bn1"))
        pool = {"padding": 1} if style == "basic" else {"ceil_mode": True}
        x = self.F.max_pool2d(x, 3, 2, **pool)
        for layer, depth in enumerate(depths, 1):
            for block in range(depth):
                stride = 2 if layer > 1 and block == 0 else 1
                x = self.resnet_block(x, f"layer{layer}.{block}", 32 << layer, stride, style)
        return x

    def ir50(self, x):
        x = self.norm(self.conv(x, "input_layer.0", 64, 3), "input_layer.1")
        x = self.prelu(x, "input_layer.2")
        units = [(64, 3), (128, 4), (256, 14), (512, 3)]
        plan = [(depth, 2 if i == 0 else 1) for depth, count in units for i in range(count)]
        for number, (depth, stride) in enumerate(plan):
            name = f"body.{number}.res_layer"
            y = self.conv(self.norm(x, f"{name}.0"), f"{name}.1", depth, 3)
            y = self.norm(self.conv(self.prelu(y, f"{name}.2"), f"{name}.3", depth, 3, stride),
                          f"{name}.4")  # fmt: skip
            if x.shape[1] == depth:
                x = self.F.max_pool2d(x, 1, stride)
            else:
                shortcut = f"body.{number}.shortcut_layer"
                x = self.norm(self.conv(x, f"{shortcut}.0", depth, 1, stride), f"{shortcut}.1")
            x = x + y
        return self.norm(x, "output_layer.0")


def save_checkpoint(torch, state, path) -> None:
    """With `DataParallel`'s names, in the format of 2018."""
    tensors = {f"module.{name}": torch.tensor(array) for name, array in state.items()}
    content = {"epoch": 3, "state_dict": tensors, "best_prec1": np.float64(0.9)}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_state(torch, state, path) -> None:
    counters = {
        name.replace("running_mean", "num_batches_tracked"): np.array(7)
        for name in state if name.endswith("running_mean")
    }  # fmt: skip
    torch.save({name: torch.tensor(item) for name, item in (state | counters).items()}, path)


def save_wrapped(torch, state, path) -> None:
    torch.save({"state_dict": {name: torch.tensor(array) for name, array in state.items()}}, path)


def save_pickle(_, state, path) -> None:
    path.write_bytes(pickle.dumps(state, protocol=2))


def mean_bgr(images: np.ndarray) -> np.ndarray:
    return images[..., ::-1] - np.float32([91.4953, 103.8827, 131.0912])


def imagenet(images: np.ndarray) -> np.ndarray:
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return (images / 255 - mean) / std


R18, R50 = (2, 2, 2, 2), (3, 4, 6, 3)
FC = {"fc.weight": (5, 512), "fc.bias": (5,)}
FC50 = {"fc.weight": (5, 2048), "fc.bias": (5,)}
FEATURE = {"fc.weight": (5, 256), "feature.weight": (256, 512), "feature.bias": (256,)}
DESCRIPTOR = {
    "output_layer.3.weight": (8, 25088), "output_layer.3.bias": (8,),
    "output_layer.4.weight": (8,), "output_layer.4.running_mean": (8,),
}  # fmt: skip

# Preset, its network, its other arrays, its file, its input in the project, images' size.
PRESETS = [
    ("msceleb_resnet18", lambda n, x: n.resnet(x, R18, "basic"), FC, save_wrapped, imagenet, 64),
    (
        "dream_resnet18",
        lambda n, x: n.resnet(x, R18, "basic"), FEATURE, save_checkpoint, lambda x: x / 255, 64,
    ),
    ("vggface2_resnet50", lambda n, x: n.resnet(x, R50, "caffe"), FC50, save_pickle, mean_bgr, 64),
    ("vggface2_senet50", lambda n, x: n.resnet(x, R50, "se"), FC50, save_pickle, mean_bgr, 64),
    (
        "ms1m_ir50",
        lambda n, x: n.ir50(x), DESCRIPTOR, save_state, lambda x: (x / 255 - 0.5) / 0.5, 112,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "network", "top", "save", "inputs", "size"), PRESETS)
def test_features_equal_pytorchs(
    torch, random_weight, difference, tmp_path, name, network, top, save, inputs, size
):
    theirs = Network(torch, random_weight)
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, size, size, 3), np.uint8)
    images = images.astype(np.float32)
    pixels = torch.tensor(inputs(images).transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        expected = network(theirs, pixels).numpy().transpose(0, 2, 3, 1)
    others = {other: np.ones(shape, np.float32) for other, shape in top.items()}
    save(torch, theirs.state | others, tmp_path / "weights")

    ported = port_preset(tmp_path / "weights", name)
    network = create_model(ported.model, 2)
    tensors = ported.tensors | {
        "params/head/kernel": np.zeros((expected.shape[-1], 2)), "params/head/bias": np.zeros(2),
    }  # fmt: skip
    variables = flax.traverse_util.unflatten_dict(tensors, sep="/")
    _, captured = jax.jit(
        lambda variables, x: network.apply(
            variables, x, train=False, capture_intermediates=lambda m, _: m.name == "backbone"
        )
    )(variables, ported.input_format.applied(jnp.asarray(images)))
    (ours,) = captured["intermediates"]["backbone"]["__call__"]
    error = difference(ours, expected)
    print(f"\n{name} {size} px: {error:.1e}")
    assert error <= TOLERANCE
