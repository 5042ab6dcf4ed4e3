"""Loading and augmenting images with tf.data, PyTorch's DataLoader and an OpenCV loop.

Batches are uint8 arrays in main memory.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from benchmarks.speed import images as test_images
from benchmarks.speed.tasks import Task

Read = Callable[[int], np.ndarray]


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Any:
    """Returns the workload of a task: loading or augmentation by `settings["library"]`."""
    del device
    cv2.setNumThreads(1)  # the parallelism is over images
    if settings["library"] == "tf.data":
        batches, versions = _tf_data(task, settings["memory"], threads)
    else:
        make_batches = {"loop": _loop, "torch": _data_loader}[settings["library"]]
        read = _reader(task, settings.get("memory", False))
        batches, versions = make_batches(task, read, threads)
    return Loading(task.batch, batches, versions)


class Loading:
    """Takes batches of a loader."""

    def __init__(self, batch: int, batches: Iterator[Any], versions: dict[str, str]) -> None:
        self.images_per_step, self._batches = batch, batches
        self.facts: dict[str, Any] = {"parameters": None, "versions": versions}
        if "torch" in versions:
            self.facts["note"] = "CPU ms without its worker processes"

    def run(self, steps: int) -> None:
        """Takes `steps` batches."""
        for _ in itertools.islice(self._batches, steps):
            pass


def _reader(task: Task, memory: bool) -> Read:
    """Returns a function from a row to its image: decoded on demand or before, or augmented."""
    if task.kind == "augment":
        images, rng = test_images.decoded(task.size), np.random.default_rng()
        return lambda row: augment(images[row], rng)
    if memory:
        return test_images.decoded(task.size).__getitem__
    files = test_images.encoded(task.size)
    return lambda row: test_images.decode(files[row])


def augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies fer_jax's default augmentation, written with OpenCV, to uint8[S, S, 3].

    Flip, one warp of rotation, zoom and shift, blur, brightness, contrast, saturation, noise.
    """
    size = image.shape[0]
    uniform = rng.uniform(-1, 1, 9)
    if uniform[0] > 0:
        image = image[:, ::-1]
    center, zoom = (size / 2, size / 2), 1 + 0.1 * uniform[1]
    warp = cv2.getRotationMatrix2D(center, 10 * uniform[2], zoom)
    warp[:, 2] += 0.06 * size * uniform[3:5]
    image = cv2.warpAffine(
        np.ascontiguousarray(image), warp, (size, size), borderMode=cv2.BORDER_REFLECT_101
    )
    values: Any = image.astype(np.float32)
    sigma = 0.004 * size * (1 + uniform[5])
    values = cv2.GaussianBlur(values, (0, 0), max(sigma, 1e-3))
    values *= np.float32(1 + 0.2 * uniform[6])
    mean = values.mean()
    values = mean + (values - mean) * np.float32(1 + 0.2 * uniform[7])
    gray = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]
    values = gray + (values - gray) * np.float32(1 + 0.2 * uniform[8])
    values += rng.standard_normal(values.shape, np.float32) * np.float32(2.5)
    return np.asarray(values.clip(0, 255).astype(np.uint8))


def _rows(batch: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(test_images.COUNT)
        yield from order[: len(order) // batch * batch].reshape(-1, batch)


def _loop(task: Task, read: Read, threads: int) -> tuple[Iterator[Any], dict[str, str]]:
    del threads
    batches = (np.stack([read(row) for row in rows]) for rows in _rows(task.batch))
    return batches, {"opencv": cv2.__version__}


class Dataset:
    """A PyTorch map-style dataset; the workers are forks of this process."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def __len__(self) -> int:
        return test_images.COUNT

    def __getitem__(self, row: int) -> Any:
        """Returns a tensor, which the worker passes through shared memory."""
        return importlib.import_module("torch").from_numpy(self._read(row))


def _data_loader(task: Task, read: Read, threads: int) -> tuple[Iterator[Any], dict[str, str]]:
    torch = importlib.import_module("torch")
    loader = torch.utils.data.DataLoader(
        Dataset(read), task.batch, shuffle=True, drop_last=True, num_workers=threads,
        persistent_workers=True,
    )  # fmt: skip
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    return batches, {"torch": torch.__version__}


def _tf_data(task: Task, memory: bool, threads: int) -> tuple[Iterator[Any], dict[str, str]]:
    # By name: only this contender imports TensorFlow, in the peers' environment.
    tensorflow = importlib.import_module("tensorflow")
    data = tensorflow.data.Dataset.from_tensor_slices(test_images.encoded(task.size))

    def decode(file: Any) -> Any:
        image = tensorflow.io.decode_jpeg(file, channels=3)
        return tensorflow.ensure_shape(image, (task.size, task.size, 3))

    if memory:
        data = data.map(decode, threads).cache()
    data = data.shuffle(test_images.COUNT).repeat()
    if not memory:
        data = data.map(decode, threads)
    data = data.batch(task.batch, drop_remainder=True).prefetch(tensorflow.data.AUTOTUNE)
    return data.as_numpy_iterator(), {"tensorflow": tensorflow.__version__}
