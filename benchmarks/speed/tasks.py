"""Tasks (network, image size, batch) and contenders of the speed benchmark. Imports no library."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

CLASSES = 7


@dataclasses.dataclass(frozen=True)
class Task:
    """A measured workload.

    Attributes:
      kind: "train" (a step of forward, backward and Adam), "infer" (probabilities), "load"
        (batches of images) or "augment" (random augmentation).
      model: fer_jax's name of the network; "images" for loading and augmentation.
      size: side of the images, pixels.
      batch: images per batch.
    """

    kind: str
    model: str
    size: int
    batch: int

    @property
    def name(self) -> str:
        """The name in tables, and the key in the results file."""
        return f"{self.kind} {self.model}, {self.size} px, batch {self.batch}"


SIZES: Mapping[str, tuple[int, int]] = {  # image side (pixels) as in the paper, and training batch
    "light_vgg": (100, 64),
    "custom_cnn": (224, 8),
    "vgg16": (224, 8),
    "inception_resnet_v2": (224, 4),
    "resnet18": (224, 32),  # the ResNets are not in the paper; PyTorch is their only peer
    "resnet50": (224, 32),
}
PAPER_MODELS = tuple(SIZES)[:4]

KINDS = ("train", "infer", "load", "augment")

INFERENCE_BATCHES = (1, 32)

LOADED = {"load": (100, 224), "augment": (100,)}  # image sides, pixels
LOADED_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Contender:
    """A library in one mode.

    Attributes:
      module: of `benchmarks.speed.contenders`.
      precision: "float32", "bfloat16" (parameters stay float32) or, on GPUs, "tf32". For loading,
        the source of the images: "jpeg", "memory" or "device".
      kinds: kinds of tasks that it takes part in.
      devices: "cpu", "gpu" or both.
      settings: passed to the module.
      environment: environment variables of its process.
    """

    module: str
    precision: str = "float32"
    kinds: tuple[str, ...] = ("train", "infer")
    devices: tuple[str, ...] = ("cpu", "gpu")
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether it is fer_jax, which runs in this environment, not in the peers'."""
        return self.module in ("ours", "ours_loading")


def _ours(precision: str, products: str, dtype: str = "float32", **more: Any) -> Contender:
    return Contender("ours", precision, settings={"products": products, "dtype": dtype}, **more)


def _torch(precision: str = "float32", **settings: Any) -> Contender:
    devices = ("gpu",) if precision == "tf32" or settings.get("graphs") else ("cpu", "gpu")
    kinds = ("infer",) if settings.get("freeze") else ("train", "infer")
    return Contender("pytorch", precision, kinds, devices, {**settings, "precision": precision})


def _keras(backend: str, precision: str = "float32", **settings: Any) -> Contender:
    given = {**settings, "precision": precision}
    return Contender("keras3", precision, settings=given, environment={"KERAS_BACKEND": backend})


def _loading(module: str, source: str, **settings: Any) -> Contender:
    return Contender(module, source, ("load",), settings=settings)


def _augmenting(module: str, **settings: Any) -> Contender:
    return Contender(module, "memory", ("augment",), settings=settings)


CONTENDERS: Mapping[str, Contender] = {
    "fer_jax": _ours("float32", "highest"),
    "fer_jax_tf32": _ours("tf32", "tensorfloat32", devices=("gpu",)),
    "fer_jax_bf16": _ours("bfloat16", "default", "bfloat16"),
    "keras_tensorflow": _keras("tensorflow"),
    "keras_tensorflow_xla": _keras("tensorflow", xla=True),
    "keras_tensorflow_bf16": _keras("tensorflow", "bfloat16"),
    "keras_jax": _keras("jax"),
    "keras_jax_bf16": _keras("jax", "bfloat16"),
    "keras_torch": _keras("torch"),
    "torch_eager": _torch(),
    "torch_eager_cl": _torch(channels_last=True),
    "torch_compile": _torch(compile=True),
    "torch_compile_cl": _torch(compile=True, channels_last=True),
    "torch_freeze": _torch(compile=True, freeze=True),
    "torch_bf16": _torch("bfloat16"),
    "torch_bf16_cl": _torch("bfloat16", channels_last=True),
    "torch_compile_bf16": _torch("bfloat16", compile=True),
    "torch_compile_bf16_cl": _torch("bfloat16", compile=True, channels_last=True),
    "torch_freeze_bf16": _torch("bfloat16", compile=True, freeze=True),
    "torch_tf32_cl": _torch("tf32", channels_last=True),
    "torch_compile_tf32_cl": _torch("tf32", compile=True, channels_last=True),
    "torch_graphs_bf16_cl": _torch("bfloat16", compile=True, channels_last=True, graphs=True),
    "onnxruntime": Contender("onnx", kinds=("infer",), devices=("cpu",)),
    "fer_jax_stream": _loading("ours_loading", "jpeg", store="stream"),
    "fer_jax_host": _loading("ours_loading", "memory", store="host"),
    "fer_jax_device": _loading("ours_loading", "device", store="device"),
    "torch_loader": _loading("loaders", "jpeg", library="torch", memory=False),
    "torch_loader_memory": _loading("loaders", "memory", library="torch", memory=True),
    "tf_data": _loading("loaders", "jpeg", library="tf.data", memory=False),
    "tf_data_memory": _loading("loaders", "memory", library="tf.data", memory=True),
    "cv2_loop": _loading("loaders", "jpeg", library="loop", memory=False),
    "fer_jax_augment": _augmenting("ours_loading"),
    "torch_loader_augment": _augmenting("loaders", library="torch"),
    "cv2_loop_augment": _augmenting("loaders", library="loop"),
}
"""Contenders by name. `cl` is channels_last, `graphs` CUDA graphs, `freeze` weights as constants.

They start in this order, fast ones first, so that slow ones can be stopped early."""

CEILINGS: Mapping[str, Contender] = {
    f"ceiling_{library}": Contender("ceiling", settings={"library": library})
    for library in ("numpy", "torch", "jax")
}
"""The machine's speed limits, as each library reaches them."""


def contenders_of(task: Task, device: str) -> dict[str, Contender]:
    """Returns the contenders that support a task on a device, "cpu" or "gpu"."""
    return {
        name: contender
        for name, contender in CONTENDERS.items()
        if task.kind in contender.kinds and device in contender.devices
    }
