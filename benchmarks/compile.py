"""How long `fer_jax.main` takes from its start until the first step is done, cold and warm.

    python -m benchmarks.compile [--model inception_resnet_v2] [--size 224] [--batch 4] [--warm 3]

Each start is a new process: one with an empty cache, then `--warm` more that find what it left.
It is the command that users give, on the faces that come with the project, stopped after a few
steps; a row says how its time passed:

  import          Python, the configuration, the libraries
  data            opening the run and its data; cold, the pictures are decoded into the cache too
  state           initial values and the overview; a thread makes the program ready meanwhile
  program         how long the first step then still waited for its program
  first step      the step itself

CPU s is what all threads used until then: on a machine that does other work too, the figure to
compare. images/s is of the median step after the first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fer_jax.runtime import huge_pages

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from fer_jax.training.session import Job

MODELS = ("custom_cnn", "vgg16", "light_vgg", "inception_resnet_v2")
STAGES = ("import", "data", "state", "program", "first step")
COLUMNS = ("network", "start", "load", *STAGES, "total", "CPU s", "images/s")


class Clock:
    """Seconds of each stage since the process was started.

    Args:
      began: when it was, by time.monotonic.
    """

    def __init__(self, began: float) -> None:
        self.seconds: dict[str, float] = {}
        self._last = began

    def lap(self, stage: str) -> None:
        """The stage ends now."""
        now = time.monotonic()
        self.seconds[stage], self._last = now - self._last, now


def measure(began: float, steps: int, arguments: list[str]) -> NoReturn:
    """Runs `fer_jax.main` in this process, and ends it after `steps` steps more than the first.

    Prints what was measured as JSON on the last line.
    """
    huge_pages.restart()  # as the command does
    clock, times = Clock(began), []
    import jax

    from fer_jax.cli import train as main
    from fer_jax.errors import COMPILER
    from fer_jax.training import train
    from fer_jax.training.programs import Program

    make_job, call = train.make_job, Program.__call__

    def timed_make_job(config: ConfigDict, folder: Path) -> Job:
        clock.lap("import")
        job = make_job(config, folder)
        clock.lap("data")
        return job

    def timed_call(program: Program, *given: Any) -> Any:
        is_first = "first step" not in clock.seconds
        if is_first:
            clock.lap("state")
            assert program.ready is not None, "a process that is alone makes its program ready"
            program.ready.result()
            clock.lap("program")
        result = jax.block_until_ready(call(program, *given))
        clock.lap("first step" if is_first else "step")
        if is_first:
            clock.seconds["CPU s"] = time.process_time()
            return result
        times.append(clock.seconds.pop("step"))
        if len(times) == steps:
            images = jax.tree.leaves(given[-1])[0].shape[1]
            finish({**clock.seconds, "images/s": images / statistics.median(times)})
        return result

    def finish(found: dict[str, float]) -> NoReturn:
        for thread in threading.enumerate():
            if thread.name == COMPILER:
                thread.join()  # the program is kept after it was made ready
        print(json.dumps(found), flush=True)
        os._exit(0)

    for owner, name, timed in (
        (train, "make_job", timed_make_job),
        (Program, "__call__", timed_call),
    ):
        setattr(owner, name, timed)
    main.main(arguments)
    raise AssertionError("the run ended before it was measured")


def start(model: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """What one start of a network took."""
    with tempfile.TemporaryDirectory() as run:
        given = (
            f"--workdir={run}/run",
            f"--config={options.config}",
            f"--config.data.dir={folder / 'data'}",
            f"--config.data.size={options.size}",
            f"--config.model.name={model}",
            "--config.model.dropout=none",
            f"--config.train.batch_size={options.batch}",
        )
        command = [sys.executable, "-m", "benchmarks.compile", f"--steps={options.steps}"]
        environment = os.environ | {"FER_JAX_CACHE": str(folder / model)}
        began = f"--began={time.monotonic()}"
        done = subprocess.run(
            [*command, began, *given], env=environment, text=True, check=False,
            capture_output=True,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{model} ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints a row for each start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3, help="after the first, for images/s")
    parser.add_argument("--warm", type=int, default=3, help="starts after the cold one")
    parser.add_argument("--config", default="configs/demo.py")
    parser.add_argument("--began", type=float, help="measure in this process, once")
    options, arguments = parser.parse_known_args()
    if options.began is not None:
        measure(options.began, options.steps, [f"--config={options.config}", *arguments])
    from tfds_builders import prepare as build

    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(None):
            build.prepare("synthetic_faces", "demo", f"{folder}/data")
        for model in MODELS if options.model == "all" else (options.model,):
            for name in ("cold", *["warm"] * options.warm):
                load = os.getloadavg()[0]
                found = start(model, options, Path(folder))
                figures = [found[stage] for stage in STAGES]
                figures += [sum(figures), found["CPU s"], found["images/s"]]
                row = [model, name, f"{load:.1f}", *(f"{figure:.2f}" for figure in figures)]
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
