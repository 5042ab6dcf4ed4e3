"""What `benchmarks.gpu` measures beside the networks' speed, one function a section.

    python -m benchmarks.gpu_sections SECTION FOLDER [--toy]

Prints the section's rows as JSON on the last line. Files are written into the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import stores
from benchmarks.speed.contenders import ours
from benchmarks.speed.runner import ROOT
from benchmarks.speed.tasks import CLASSES, Task
from fer_jax.data.augment import OFF
from fer_jax.data.preprocess import Preprocessing
from fer_jax.models.layers import cpu_ops
from fer_jax.models.registry import create_model
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import create_state
from fer_jax.training.step import make_step_function

Rows = list[dict[str, Any]]
"""A table; each row maps columns to values."""

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}
LARGEST_ERROR = 1e-3  # of a float32 step, relative to the norm of the parameters' change


def correctness(out: Path, toy: bool) -> Rows:
    """One SGD step on the accelerator and on the CPU, from equal weights and images."""
    del out
    rows = []
    for model in ("light_vgg",) if toy else ("light_vgg", "vgg16", "resnet18"):
        size, batch = (8, 4) if toy else (48, 32)
        expected = _update(model, size, batch, "float32", on_cpu=True)
        for precision in PRECISIONS:
            error = _distance(_update(model, size, batch, precision, on_cpu=False), expected)
            if precision == "float32" and not error <= LARGEST_ERROR:
                raise RuntimeError(
                    f"expected a float32 step of {model} within {LARGEST_ERROR} of the CPU's, "
                    f"found {error:.2g}"
                )
            rows.append({"network": model, "precision": precision, "relative error": error})
    return rows


def _update(model: str, size: int, batch: int, precision: str, on_cpu: bool) -> list[Any]:
    """Returns the change of each parameter by a step, as NumPy arrays."""
    rng = np.random.default_rng(0)
    images = {
        "image": rng.integers(0, 256, (batch, size, size, 3), np.uint8),
        "label": rng.integers(0, CLASSES, batch).astype(np.int32),
    }
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    network, optimizer = create_model(model, CLASSES, dtype=dtype), optax.sgd(0.1)
    step = make_step_function(network, optimizer, Preprocessing(size, "unit"), OFF, PLAIN, 0)
    # Not Adam: its first step only keeps the gradient's sign.
    state = jax.device_get(create_state(network, optimizer, size, 0))
    device = jax.devices("cpu")[0] if on_cpu else jax.devices()[0]
    ops = cpu_ops.disabled() if on_cpu else contextlib.nullcontext()
    with ops, jax.default_matmul_precision(PRECISIONS[precision]):
        new, _ = jax.jit(step)(*jax.device_put((state, images), device))
    pairs = zip(*map(jax.tree.leaves, (jax.device_get(new.params), state.params)), strict=True)
    return [after - before for after, before in pairs]


def _distance(arrays: Sequence[Any], expected: Sequence[Any]) -> float:
    """Returns the norm of the difference relative to the norm of `expected`."""
    squares = [
        (((one - other) ** 2).sum(), (other**2).sum())
        for one, other in zip(arrays, expected, strict=True)
    ]
    return float((sum(a for a, _ in squares) / sum(b for _, b in squares)) ** 0.5)


def demo(out: Path, toy: bool) -> Rows:
    """Trains and evaluates the demo."""
    folder = out / "demo"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier measurement
    command = [sys.executable, "-m", "fer_jax.train", "--config", "configs/demo.py"]
    command += ["--workdir", str(folder), f"--config.data.dir={out / 'data'}"]
    command += ["--config.train.epochs=1", "--config.data.size=16"] if toy else []
    subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=True)
    report = json.loads((folder / "report" / "report.json").read_text())
    (cost,) = json.loads((folder / "timing.json").read_text())["sittings"]
    columns = ("seconds", "seconds_to_first_step", "images_per_second", "waiting_share")
    return [
        {"balanced accuracy": report["balanced_accuracy"], "images": report["count"]}
        | {name.replace("_", " "): cost[name] for name in columns}
        | {"peak device MiB": _mib(cost["device_bytes"])}
    ]


def dispatch(out: Path, toy: bool) -> Rows:
    """Training speed by steps per dispatched program."""
    del out
    runs = {str(steps): ("device", steps) for steps in ((1, 2) if toy else (1, 4, 16))}
    return _training_rows(runs, "steps per dispatch", toy)


def image_stores(out: Path, toy: bool) -> Rows:
    """Training speed and share of waiting for data by image store."""
    del out
    runs = {name: (name, None) for name in ("device", "host", "stream")}
    return _training_rows(runs, "store", toy)


def _training_rows(runs: Mapping[str, tuple[str, int | None]], column: str, toy: bool) -> Rows:
    """Trains with each store and number of steps per dispatch in alternating rounds."""
    size, batch, steps, rounds = (8, 4, 4, 1) if toy else (64, 256, 64, 5)
    images = stores.make_stores(size)
    runners = {
        name: stores.Runner(
            store, images[store],
            argparse.Namespace(model="light_vgg", size=size, batch=batch, steps=steps, chunk=chunk),
        )
        for name, (store, chunk) in runs.items()
    }  # fmt: skip
    rows = []
    for name, results in stores.alternate(runners, rounds).items():
        rate, waiting, cpu = map(statistics.median, zip(*results, strict=True))
        rows.append({column: name, "images/s": rate, "waiting share": waiting, "CPU ms/image": cpu})
    return rows


def profile(out: Path, toy: bool) -> Rows:
    """The operations that take the most time of ResNet-18's training, in bfloat16."""
    task = Task("train", "light_vgg", 8, 2) if toy else Task("train", "resnet18", 224, 128)
    settings = {"products": "default", "dtype": "bfloat16"}
    training = ours.make(task, settings, jax.default_backend(), 1)
    training.run(2)
    start = time.perf_counter()
    with jax.profiler.trace(str(out / "profile")):
        training.run(2)
        seconds = time.perf_counter() - start
    newest = max((out / "profile").rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    times: dict[str, float] = {}
    for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
        for line in plane.lines:
            on_gpu = plane.name.startswith("/device:GPU") and line.name.startswith("Stream")
            if on_gpu or (toy and "XLA" in line.name):
                for event in line.events:
                    times[event.name] = times.get(event.name, 0.0) + event.duration_ns / 1e9
    if not times:
        raise RuntimeError(f"expected operations in {newest}, found none; view it in TensorBoard")
    largest = sorted(times.items(), key=lambda item: -item[1])[:12]
    return [
        {"operation": name, "ms": 1000 * taken, "of wall time": taken / seconds}
        for name, taken in [("all", sum(times.values())), *largest]
    ]


def _mib(size: int | None) -> float | None:
    return None if size is None else size / 2**20


MEASURES: Mapping[str, Callable[[Path, bool], Rows]] = {
    "correctness": correctness,
    "demo": demo,
    "dispatch": dispatch,
    "stores": image_stores,
    "profile": profile,
}
"""Sections by name."""


def main() -> None:
    """Prints the rows of a section."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("section", choices=list(MEASURES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--toy", action="store_true", help="tiny sizes, on CPUs")
    options = parser.parse_args()
    if jax.default_backend() != (expected := "cpu" if options.toy else "gpu"):
        raise RuntimeError(f"expected JAX on {expected}, found it on {jax.default_backend()}")
    print(json.dumps(MEASURES[options.section](options.folder.resolve(), options.toy)))


if __name__ == "__main__":
    main()
