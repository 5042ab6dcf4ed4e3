"""The usual ways to load pictures and to change them: tf.data, DataLoader, a loop over OpenCV.

Batches are uint8 arrays in main memory.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from benchmarks.speed import pictures
from benchmarks.speed.tasks import Task

Read = Callable[[int], np.ndarray]


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Any:
    """The work of a task: loading or augmentation by the library of the settings."""
    del device
    cv2.setNumThreads(1)  # the work is spread over pictures
    if settings["library"] == "tf.data":
        batches, versions = _tf_data(task, settings["memory"], threads)
    else:
        made = {"loop": _loop, "torch": _data_loader}[settings["library"]]
        batches, versions = made(task, _reader(task, settings.get("memory", False)), threads)
    return Loading(task.batch, batches, versions)


class Loading:
    """Takes batches."""

    def __init__(self, batch: int, batches: Iterator[Any], versions: dict[str, str]) -> None:
        self.at_once, self._batches = batch, batches
        self.facts: dict[str, Any] = {"parameters": None, "versions": versions}
        if "torch" in versions:
            self.facts["remark"] = "CPU ms without its worker processes"

    def run(self, steps: int) -> None:
        """So many."""
        for _ in itertools.islice(self._batches, steps):
            pass


def _reader(task: Task, memory: bool) -> Read:
    """A picture by its row: decoded when asked for or before; changed, if that is the task."""
    if task.kind == "augment":
        images, rng = pictures.decoded(task.size), np.random.default_rng()
        return lambda row: changed(images[row], rng)
    if memory:
        return pictures.decoded(task.size).__getitem__
    files = pictures.encoded(task.size)
    return lambda row: pictures.decode(files[row])


def changed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The changes of fer_jax's defaults, as one writes them with OpenCV: uint8[S, S, 3].

    Flip, one warp of rotation, zoom and shift, brightness, contrast and saturation, blur, noise.
    """
    size = image.shape[0]
    uniform = rng.uniform(-1, 1, 9)
    if uniform[0] > 0:
        image = image[:, ::-1]
    centre, zoom = (size / 2, size / 2), 1 + 0.1 * uniform[1]
    warp = cv2.getRotationMatrix2D(centre, 10 * uniform[2], zoom)
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
    grey = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]
    values = grey + (values - grey) * np.float32(1 + 0.2 * uniform[8])
    values += rng.standard_normal(values.shape, np.float32) * np.float32(2.5)
    return np.asarray(values.clip(0, 255).astype(np.uint8))


def _rows(batch: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(pictures.COUNT)
        yield from order[: len(order) // batch * batch].reshape(-1, batch)


def _loop(task: Task, read: Read, threads: int) -> tuple[Iterator[Any], dict[str, str]]:
    del threads
    batches = (np.stack([read(row) for row in rows]) for rows in _rows(task.batch))
    return batches, {"opencv": cv2.__version__}


class Pictures:
    """As PyTorch's datasets are; its workers are copies of this process."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def __len__(self) -> int:
        return pictures.COUNT

    def __getitem__(self, row: int) -> Any:
        """A tensor, so that it comes from its worker through shared memory."""
        return importlib.import_module("torch").from_numpy(self._read(row))


def _data_loader(task: Task, read: Read, threads: int) -> tuple[Iterator[Any], dict[str, str]]:
    torch = importlib.import_module("torch")
    loader = torch.utils.data.DataLoader(
        Pictures(read), task.batch, shuffle=True, drop_last=True, num_workers=threads,
        persistent_workers=True,
    )  # fmt: skip
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    return batches, {"torch": torch.__version__}


def _tf_data(task: Task, memory: bool, threads: int) -> tuple[Iterator[Any], dict[str, str]]:
    # By name: nothing here imports TensorFlow but this peer, in the peers' environment.
    tensorflow = importlib.import_module("tensorflow")
    data = tensorflow.data.Dataset.from_tensor_slices(pictures.encoded(task.size))

    def decode(file: Any) -> Any:
        image = tensorflow.io.decode_jpeg(file, channels=3)
        return tensorflow.ensure_shape(image, (task.size, task.size, 3))

    if memory:
        data = data.map(decode, threads).cache()
    data = data.shuffle(pictures.COUNT).repeat()
    if not memory:
        data = data.map(decode, threads)
    data = data.batch(task.batch, drop_remainder=True).prefetch(tensorflow.data.AUTOTUNE)
    return data.as_numpy_iterator(), {"tensorflow": tensorflow.__version__}
