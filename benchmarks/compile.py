"""Time from the start of `fer-jax train` to its first step, with a cold and a warm cache.

    python -m benchmarks.compile [--model inception_resnet_v2] [--size 224] [--batch 4] [--warm 3]
    python -m benchmarks.compile --checkout ../before --warm 5

Each start is a new process: one with an empty cache, then `--warm` more that reuse it. Each trains
on the synthetic faces and stops a few steps after the first. Columns, in seconds:

  import          Python, the config, the libraries
  data            opening the run directory and its data
  state           initial values and the model summary
  first step      tracing, compiling (cold) or loading (warm), and the step
  CPU s           CPU time of all threads until then; depends least on other work on the machine

"peak MiB" is the peak memory until the first step, "images/s" that of the median step after it.
With `--checkout`, another checkout of the project alternates with this one, in the same virtual
environment; the last rows are the medians of the warm starts.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import json
import os
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("custom_cnn", "vgg16", "light_vgg", "inception_resnet_v2")
STAGES = ("import", "data", "state", "first step")
FIGURES = (*STAGES, "total", "CPU s", "peak MiB", "images/s")
COLUMNS = ("network", "checkout", "start", "load", *FIGURES)


class PatchOnImport:
    """A finder that calls `patches[name](module)` after module `name` is first imported."""

    def __init__(self, patches: dict[str, Callable[[ModuleType], None]]) -> None:
        self._patches = patches

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """Returns the spec of a module to patch; None for every other module."""
        patch = self._patches.pop(name, None)
        spec = importlib.util.find_spec(name) if patch else None
        if patch is None or spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class Measurement:
    """Times the stages of training in this process, and stops it after `steps` more steps.

    Args:
      began: start of the process, by time.monotonic.
      steps: steps after the first.
      batch: images per step.
      path: JSON file for the figures.
    """

    def __init__(self, began: float, steps: int, batch: int, path: Path) -> None:
        self._began, self._last = began, began
        self._steps, self._batch, self._path = steps, batch, path
        self._figures: dict[str, float] = {}
        self._step_seconds: list[float] = []

    def install(self) -> None:
        """Patches the training modules when they are imported."""
        patches: dict[str, Callable[[ModuleType], None]] = {
            "fer_jax.training.train": self._patch_train,
            "fer_jax.training.loop": self._patch_loop,
        }
        sys.meta_path.insert(0, PatchOnImport(patches))

    def _lap(self) -> float:
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        return seconds

    def _patch_train(self, module: ModuleType) -> None:
        original = module.make_session

        def timed(*arguments: Any) -> Any:
            self._figures["import"] = self._lap()
            result = original(*arguments)
            self._figures["data"] = self._lap()
            return result

        module.make_session = timed  # type: ignore[attr-defined]

    def _patch_loop(self, module: ModuleType) -> None:
        import jax

        original = module.Loop._dispatch  # noqa: SLF001

        def timed(loop: Any, first: int, last: int) -> None:
            is_first = "state" not in self._figures
            if is_first:
                self._figures["state"] = self._lap()
            self._lap()
            original(loop, first, last)
            jax.block_until_ready(loop.state)
            seconds = self._lap()
            if is_first:
                self._record_first_step(seconds)
            else:
                self._step_seconds.append(seconds / (last - first))
            if len(self._step_seconds) == self._steps:
                self._finish()

        module.Loop._dispatch = timed  # noqa: SLF001

    def _record_first_step(self, seconds: float) -> None:
        self._figures["first step"] = seconds
        self._figures["total"] = self._last - self._began
        self._figures["CPU s"] = time.process_time()
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._figures["peak MiB"] = peak_kib / 2**10

    def _finish(self) -> None:
        rate = self._batch / statistics.median(self._step_seconds)
        self._path.write_text(json.dumps({**self._figures, "images/s": rate}))
        raise SystemExit(0)


def checkout_environment(checkout: Path, cache: Path) -> dict[str, str]:
    """Returns the environment of a process that runs `checkout` with the cache in `cache`."""
    return os.environ | {"PYTHONPATH": str(checkout), "FER_JAX_CACHE": str(cache)}


def run_checked(command: list[str], checkout: Path, environment: dict[str, str]) -> str:
    """Runs a command in a checkout and returns its output; exits with its message if it fails."""
    done = subprocess.run(command, cwd=checkout, env=environment, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{command} in {checkout} exited with {done.returncode}:\n{done.stderr}")
    return done.stdout


def prepare_data(checkout: Path, folder: Path) -> None:
    """Prepares the demo's data set in `folder`."""
    command = [sys.executable, "-P", "-m", "tfds_builders.build", "synthetic_faces",
               "--config=demo", f"--data_dir={folder}"]  # fmt: skip
    run_checked(command, checkout, checkout_environment(checkout, folder))


def measure_start(
    model: str, checkout: Path, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Starts training once and returns its figures by column.

    Args:
      model: name of the network.
      checkout: project folder to run.
      folder: contains the checkout's data and caches.
      options: of the command line.
    """
    with tempfile.TemporaryDirectory() as run:
        result = Path(run) / "figures.json"
        command = [sys.executable, "-P", __file__, f"--steps={options.steps}",
                   f"--batch={options.batch}", f"--result={result}",
                   f"--began={time.monotonic()}",
                   f"--config={options.config}",
                   f"--workdir={run}/run",
                   f"--config.data.dir={folder / 'data'}",
                   f"--config.data.size={options.size}",
                   f"--config.model.name={model}",
                   "--config.model.dropout=none",
                   f"--config.train.batch_size={options.batch}"]  # fmt: skip
        run_checked(command, checkout, checkout_environment(checkout, folder / model))
        figures: dict[str, float] = json.loads(result.read_text())
    return figures


def print_row(labels: list[str], figures: dict[str, float]) -> None:
    """Prints a row of the table."""
    cells = [*labels, *(f"{figures[name]:.2f}" for name in FIGURES)]
    print("| " + " | ".join(cells) + " |", flush=True)


def compare(options: argparse.Namespace) -> None:
    """Prints a row for each start, and the medians of the warm starts."""
    checkouts = {ROOT.name: ROOT}
    if options.checkout:
        checkouts[options.checkout.name] = options.checkout.resolve()
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: Path(folder) / name for name in checkouts}
        for name, checkout in checkouts.items():
            prepare_data(checkout, folders[name] / "data")
        for model in MODELS if options.model == "all" else (options.model,):
            warm: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
            for start in ("cold", *["warm"] * options.warm):
                for name, checkout in checkouts.items():
                    load = f"{os.getloadavg()[0]:.1f}"
                    figures = measure_start(model, checkout, folders[name], options)
                    print_row([model, name, start, load], figures)
                    if start == "warm":
                        warm[name].append(figures)
            for name, rows in warm.items():
                if len(rows) > 1:
                    medians = {key: statistics.median(row[key] for row in rows) for key in FIGURES}
                    print_row([model, name, "median warm", ""], medians)


def main() -> None:
    """Measures in this process if `--began` is set, else starts the processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3, help="steps after the first, for images/s")
    parser.add_argument("--warm", type=int, default=3, help="number of warm starts")
    parser.add_argument("--config", default="configs/demo.py")
    parser.add_argument("--checkout", type=Path, help="another checkout to compare with")
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options, arguments = parser.parse_known_args()
    if options.began is None:
        if arguments:
            parser.error(f"unknown arguments: {' '.join(arguments)}")
        compare(options)
        return
    Measurement(options.began, options.steps, options.batch, options.result).install()
    sys.argv = ["fer_jax.main", f"--config={options.config}", *arguments]
    runpy.run_module("fer_jax.main", run_name="__main__")


if __name__ == "__main__":
    main()
