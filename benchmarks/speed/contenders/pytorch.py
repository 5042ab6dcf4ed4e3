"""PyTorch: the same networks, eager or compiled, in float32 or under autocast.

The paper's InceptionResNetV2 has no BatchNorm scale: here it is fixed at one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from benchmarks.speed.tasks import CLASSES, Task


def dense_head(features: int, widths: Sequence[int], dropout: float) -> list[nn.Module]:
    """Dense layers and the logits."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(features, width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        features = width
    return [*layers, nn.Linear(features, CLASSES)]


def convolutions(inputs: int, widths: Sequence[int], padding: int) -> list[nn.Module]:
    """3 x 3 convolutions with ReLU, followed by max pooling."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=padding), nn.ReLU(inplace=True)]
        inputs = width
    return [*layers, nn.MaxPool2d(2)]


def light_vgg(size: int) -> nn.Module:
    """The paper's network for RAF-DB."""
    body = [*convolutions(3, (8, 8), 1), *convolutions(8, (16, 16), 1), nn.Flatten()]
    return nn.Sequential(*body, *dense_head(16 * (size // 4) ** 2, (512, 512), 0.7))


def custom_cnn(size: int) -> nn.Module:
    """The paper's network for KDEF."""
    body = [*convolutions(3, (32, 64), 0), nn.Dropout(0.25), nn.Flatten()]
    return nn.Sequential(*body, *dense_head(64 * ((size - 4) // 2) ** 2, (128,), 0.5))


def vgg16(size: int) -> nn.Module:
    """The paper's network for RaFD."""
    del size
    body, inputs = [], 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        body += convolutions(inputs, (width,) * depth, 1)
        inputs = width
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, *pooled, *dense_head(512, (512, 512), 0.5))


class Branches(nn.Module):
    """Parallel branches, concatenated."""

    def __init__(self, *chains: nn.Module) -> None:
        super().__init__()
        self.chains = nn.ModuleList(chains)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, sum of the branches' channels, H', W']."""
        return torch.cat([chain(x) for chain in self.chains], 1)


class Residual(nn.Module):
    """A residual block: adds the scaled output of the branches to the input."""

    def __init__(
        self, branches: Branches, ends: int, channels: int, scale: float, last: bool
    ) -> None:
        super().__init__()
        self.branches, self.up = branches, nn.Conv2d(ends, channels, 1)
        self.scale, self.last = scale, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C, H, W]."""
        total = x + self.scale * self.up(self.branches(x))
        return total if self.last else functional.relu(total, inplace=True)


def unit(
    inputs: int, filters: int, kernel: tuple[int, int], stride: int = 1, same: bool = True
) -> nn.Module:
    """Convolution, BatchNorm without a trainable scale, ReLU."""
    padding = (kernel[0] // 2, kernel[1] // 2) if same else (0, 0)
    norm = nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01)
    norm.weight.requires_grad_(False)
    conv = nn.Conv2d(inputs, filters, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, norm, nn.ReLU(inplace=True))


def chain(inputs: int, *units: tuple[int, ...]) -> nn.Module:
    """A sequence of units (filters, rows, columns[, 2]); the 2 means stride 2 without padding."""
    layers = []
    for filters, rows, columns, *strided in units:
        stride = 2 if strided else 1
        layers.append(unit(inputs, filters, (rows, columns), stride, not strided))
        inputs = filters
    return nn.Sequential(*layers)


def blocks(count: int, inputs: int, ends: int, scale: float, *units: Any) -> list[nn.Module]:
    """Returns `count` equal residual blocks."""
    return [
        Residual(Branches(*(chain(inputs, *one) for one in units)), ends, inputs, scale, False)
        for _ in range(count)
    ]


def inception_resnet_v2(size: int) -> nn.Module:
    """The paper's network for SFEW and AM-FED+."""
    del size
    pool = nn.MaxPool2d(3, 2)
    average = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    stem = [
        unit(3, 32, (3, 3), 2, same=False),
        unit(32, 32, (3, 3), same=False),
        unit(32, 64, (3, 3)),
        pool,
        unit(64, 80, (1, 1)),
        unit(80, 192, (3, 3), same=False),
        pool,
    ]
    mixed_5b = Branches(
        chain(192, (96, 1, 1)),
        chain(192, (48, 1, 1), (64, 5, 5)),
        chain(192, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        nn.Sequential(average, unit(192, 64, (1, 1))),
    )
    mixed_6a = Branches(
        chain(320, (384, 3, 3, 2)),
        chain(320, (256, 1, 1), (256, 3, 3), (384, 3, 3, 2)),
        pool,
    )
    mixed_7a = Branches(
        chain(1088, (256, 1, 1), (384, 3, 3, 2)),
        chain(1088, (256, 1, 1), (288, 3, 3, 2)),
        chain(1088, (256, 1, 1), (288, 3, 3), (320, 3, 3, 2)),
        pool,
    )
    form35 = (
        ((32, 1, 1),),
        ((32, 1, 1), (32, 3, 3)),
        ((32, 1, 1), (48, 3, 3), (64, 3, 3)),
    )
    form17 = (((192, 1, 1),), ((128, 1, 1), (160, 1, 7), (192, 7, 1)))
    form8 = (((192, 1, 1),), ((192, 1, 1), (224, 1, 3), (256, 3, 1)))
    last = Residual(Branches(*(chain(2080, *one) for one in form8)), 448, 2080, 1.0, True)
    body = [
        *stem, mixed_5b, *blocks(10, 320, 128, 0.17, *form35),
        mixed_6a, *blocks(20, 1088, 384, 0.10, *form17),
        mixed_7a, *blocks(9, 2080, 448, 0.20, *form8), last,
        unit(2080, 1536, (1, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ]  # fmt: skip
    return nn.Sequential(*body, *dense_head(1536, (1024, 512, 256), 0.3))


def resnet_unit(inputs: int, filters: int, kernel: int, stride: int, relu: bool) -> nn.Module:
    """Convolution, BatchNorm, and ReLU if `relu`."""
    conv = nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(
        conv, nn.BatchNorm2d(filters), nn.ReLU(inplace=True) if relu else nn.Identity()
    )


class ResNetBlock(nn.Module):
    """ReLU of the sum of the units (filters, kernel, stride) and the input or its projection."""

    def __init__(self, inputs: int, units: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        widths = [inputs, *(filters for filters, _, _ in units)]
        self.units = nn.Sequential(
            *(
                resnet_unit(before, *unit, relu=number < len(units))
                for number, (before, unit) in enumerate(zip(widths, units, strict=False), 1)
            )
        )
        stride, outputs = max(stride for _, _, stride in units), widths[-1]
        self.shortcut = (
            resnet_unit(inputs, outputs, 1, stride, relu=False)
            if (inputs, 1) != (outputs, stride)
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, filters of the last unit, H / stride, W / stride]."""
        return functional.relu(self.shortcut(x) + self.units(x), inplace=True)


def resnet(depths: Sequence[int], has_bottlenecks: bool, size: int) -> nn.Module:
    """ResNet-18 or ResNet-50."""
    del size
    layers: list[nn.Module] = [resnet_unit(3, 64, 7, 2, relu=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for layer, depth in enumerate(depths):
        width = 64 * 2**layer
        for number in range(depth):
            stride = 2 if layer and not number else 1
            units = [(width, 3, stride), (width, 3, 1)]
            if has_bottlenecks:
                units = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
            layers.append(ResNetBlock(inputs, units))
            inputs = units[-1][0]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pooled, *dense_head(inputs, (), 0.0))


NETWORKS: Mapping[str, Callable[[int], nn.Module]] = {
    "light_vgg": light_vgg,
    "custom_cnn": custom_cnn,
    "vgg16": vgg16,
    "inception_resnet_v2": inception_resnet_v2,
    "resnet18": functools.partial(resnet, (2, 2, 2, 2), False),
    "resnet50": functools.partial(resnet, (3, 4, 6, 3), True),
}


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Any:
    """Returns the workload of a task.

    `settings` has precision, compile, channels_last, freeze and graphs.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    exact = settings["precision"] == "float32"
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = True
    return {"train": Training, "infer": Inference}[task.kind](task, settings, device)


class Workload:
    """Base of training and inference: network, batch, autocast, synchronization."""

    def __init__(self, task: Task, settings: Mapping[str, Any], device: str) -> None:
        self.images_per_step = task.batch
        self.device = "cuda" if device == "gpu" else "cpu"
        layout = torch.channels_last if settings.get("channels_last") else torch.contiguous_format
        self.network = NETWORKS[task.model](task.size).to(self.device, memory_format=layout)
        shape = (task.batch, 3, task.size, task.size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.images = images.to(self.device).contiguous(memory_format=layout)
        self.labels = torch.randint(0, CLASSES, (task.batch,)).to(self.device)
        self.is_bf16 = settings["precision"] == "bfloat16"
        self.facts = {
            "parameters": sum(p.numel() for p in self.network.parameters() if p.requires_grad),
            "versions": {"torch": torch.__version__},
        }

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the autocast context: bfloat16 if that is the precision."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.is_bf16)

    def compiled(self, function: Any, settings: Mapping[str, Any]) -> Any:
        """Returns `function`, compiled by torch.compile if the settings say so."""
        if not settings.get("compile"):
            return function
        if settings.get("freeze"):
            inductor: Any = importlib.import_module("torch._inductor.config")
            inductor.freezing = True
        mode = "reduce-overhead" if settings.get("graphs") else None
        return torch.compile(function, mode=mode)

    def device_peak_bytes(self) -> int | None:
        """Returns the GPU's peak memory without the CUDA context; None on CPUs."""
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else None

    def wait(self) -> None:
        """Waits for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()


class Training(Workload):
    """Training steps with fused Adam, PyTorch's fastest."""

    def __init__(self, task: Task, settings: Mapping[str, Any], device: str) -> None:
        super().__init__(task, settings, device)
        trainable = [p for p in self.network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adam(trainable, lr=1e-3, fused=True)
        self._loss = self.compiled(self._plain_loss, settings)

    def _plain_loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            logits = self.network(images.float() / 255)
        return functional.cross_entropy(logits.float(), labels)

    def run(self, steps: int) -> None:
        """Runs `steps` steps."""
        for _ in range(steps):
            self._optimizer.zero_grad(set_to_none=True)
            self._loss(self.images, self.labels).backward()
            self._optimizer.step()
        self.wait()


class Inference(Workload):
    """Probabilities of a uint8 batch, fetched to the host."""

    def __init__(self, task: Task, settings: Mapping[str, Any], device: str) -> None:
        super().__init__(task, settings, device)
        self.network.eval()
        self._program = self.compiled(self._plain_program, settings)

    def _plain_program(self, images: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            logits = self.network(images.float() / 255)
        return logits.float().softmax(1)

    def run(self, steps: int) -> None:
        """Runs `steps` batches."""
        with torch.no_grad():
            for _ in range(steps):
                self._program(self.images).cpu()
