"""Keras 3 on the backend of KERAS_BACKEND: the same networks, trained by `fit`."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from benchmarks.speed.tasks import CLASSES, Task

Conv = functools.partial(layers.Conv2D, kernel_size=3, activation="relu")


def head(widths: tuple[int, ...], dropout: float) -> list[Any]:
    """Dense layers and the logits, which are float32 in any precision."""
    stack: list[Any] = []
    for width in widths:
        stack += [layers.Dense(width, activation="relu"), layers.Dropout(dropout)]
    return [*stack, layers.Dense(CLASSES, dtype="float32")]


def light_vgg(size: int) -> list[Any]:
    """The paper's network for RAF-DB."""
    del size
    stack: list[Any] = []
    for width in (8, 16):
        same = functools.partial(Conv, width, padding="same")
        stack += [same(), same(), layers.MaxPooling2D(2)]
    return [*stack, layers.Flatten(), *head((512, 512), 0.7)]


def custom_cnn(size: int) -> list[Any]:
    """The paper's network for KDEF."""
    del size
    stack = [Conv(32), Conv(64), layers.MaxPooling2D(2), layers.Dropout(0.25), layers.Flatten()]
    return [*stack, *head((128,), 0.5)]


def vgg16(size: int) -> list[Any]:
    """The paper's network for RaFD."""
    return [_application("VGG16", size), *head((512, 512), 0.5)]


def inception_resnet_v2(size: int) -> list[Any]:
    """The paper's network for SFEW and AM-FED+."""
    return [_application("InceptionResNetV2", size), *head((1024, 512, 256), 0.3)]


def _application(name: str, size: int) -> Any:
    return getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3)
    )


NETWORKS = {
    "light_vgg": light_vgg,
    "custom_cnn": custom_cnn,
    "vgg16": vgg16,
    "inception_resnet_v2": inception_resnet_v2,
}


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Any:
    """Returns the workload of a task; `settings` has the precision and, on TensorFlow, `xla`."""
    del device
    backend = keras.backend.backend()
    if backend == "torch":
        importlib.import_module("torch").set_num_threads(threads)
    if settings["precision"] == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    # Keras' default; on TensorFlow both settings are contenders.
    jit_compile = bool(settings.get("xla")) if backend == "tensorflow" else "auto"
    return {"train": Training, "infer": Inference}[task.kind](task, jit_compile)


class Workload:
    """The network from a uint8 batch to logits, compiled for `fit` and `predict`."""

    def __init__(self, task: Task, jit_compile: bool | str) -> None:
        self.images_per_step = task.batch
        inputs = layers.Input((task.size, task.size, 3), dtype="uint8")
        x = layers.Rescaling(1 / 255)(inputs)
        for layer in NETWORKS[task.model](task.size):
            x = layer(x)
        self.model = keras.Model(inputs, x)
        self.model.compile(
            optimizer=keras.optimizers.Adam(1e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=jit_compile,
        )
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (task.batch, task.size, task.size, 3), np.uint8)
        self.labels = rng.integers(0, CLASSES, task.batch).astype(np.int32)
        parameters = sum(int(np.prod(weight.shape)) for weight in self.model.trainable_weights)
        backend = keras.backend.backend()
        version = importlib.import_module(backend).__version__
        self.facts = {
            "parameters": parameters,
            "versions": {"keras": keras.__version__, backend: version},
        }


class Training(Workload):
    """`fit` on one batch repeatedly: no state leaves the device between steps."""

    def run(self, steps: int) -> None:
        """Runs `steps` steps."""

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            while True:
                yield self.images, self.labels

        self.model.fit(batches(), steps_per_epoch=steps, shuffle=False, verbose=0)


class Inference(Workload):
    """Probabilities of a uint8 batch, fetched to the host."""

    def run(self, steps: int) -> None:
        """Runs `steps` batches."""
        for _ in range(steps):
            logits = self.model.predict_on_batch(self.images)
            np.exp(logits - logits.max(axis=1, keepdims=True))
