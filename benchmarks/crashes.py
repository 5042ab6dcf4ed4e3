"""Whether a training that is killed again and again ends at the bits of an unbroken one.

    python -m benchmarks.crashes [--kills 100] [--signal KILL] [--seed 0]

A tiny network on the shipped faces. Every third kill comes while a checkpoint is being
saved, every sixth while a sitting starts, the others at random moments of training. Sittings
are forked from a process that has imported everything and started no device, because
importing would take most of the time. Prints what happened; fails if a bit differs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fer_jax import files

SETTINGS = (
    "--config=configs/demo.py",
    "--config.data.size=16",
    "--config.model.head_widths=16",
    "--config.train.batch_size=448",  # five steps an epoch
    "--config.train.eval_epochs=1",
    "--config.train.log_steps=2",
    "--config.train.patience=0",
    "--config.train.pictures=0",
    "--config.augment.rotation=0",
    "--config.augment.zoom=0",
    "--config.augment.shift=0",
    "--config.eval.samples=0",
)
LONGEST_SITTING = 0.8  # seconds from the first step to a kill
WORDS = "the first step"  # what a sitting says when it begins to train


@dataclasses.dataclass
class Tally:
    """What was done to a training.

    Attributes:
      kills: in all.
      saving: of them, those while a checkpoint was being written.
      starting: of them, those before the first step.
      sittings: that it took.
      seconds: from the first start to the end.
    """

    kills: int = 0
    saving: int = 0
    starting: int = 0
    sittings: int = 0
    seconds: float = 0.0


def sit(arguments: Sequence[str], log: str) -> None:
    """One sitting, in a process of its own: `main`, its words in the file `log`."""
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import jax

    from fer_jax import errors
    from fer_jax.cli import train as main

    jax.config.update("jax_enable_compilation_cache", True)
    with errors.exit_cleanly():
        main.main(arguments)


class Training:
    """A run that is started as often as needed.

    Args:
      folder: for the run directory and its log.
      arguments: of `main`, `--workdir` left out.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.run, self.log = folder / "run", folder / "log.txt"
        self._arguments = (*arguments, f"--workdir={self.run}")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["jax", "fer_jax.cli.train", "fer_jax.training.train", "fer_jax.experiments.evaluate"]
        )

    def start(self) -> BaseProcess:
        """Begins a sitting."""
        self.log.write_text("")
        process = self._context.Process(target=sit, args=(self._arguments, str(self.log)))
        process.start()
        return process

    def finish(self) -> None:
        """Runs to the end."""
        process = self.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(self.log.read_text())

    @property
    def trains(self) -> bool:
        """Whether the present sitting has come to its first step."""
        return WORDS in self.log.read_text()

    @property
    def saves(self) -> bool:
        """Whether a checkpoint is being written."""
        return any((self.run / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def crash(training: Training, kills: int, seed: int, number: int = signal.SIGKILL) -> Tally:
    """Sends `number` to so many sittings at random moments, then lets the training finish."""
    draw, tally, began = random.Random(seed), Tally(), time.monotonic()
    while tally.kills < kills:
        process = training.start()
        tally.sittings += 1
        moment = ("save", "step", "start", "save", "step", "step")[tally.kills % 6]
        if moment == "start" and number == signal.SIGKILL:
            time.sleep(draw.uniform(0, 1.5))
        else:
            _wait_until(process, lambda: training.trains)
            time.sleep(draw.uniform(0, LONGEST_SITTING))
        if moment == "save":
            _wait_until(process, lambda: training.saves)
            time.sleep(draw.uniform(0, 0.03))
        if not process.is_alive():
            raise RuntimeError(f"finished before {kills} kills:\n{training.log.read_text()}")
        tally.saving += training.saves
        tally.starting += not training.trains
        os.kill(process.pid or 0, number)
        process.join()
        tally.kills += 1
        wanted = -number if number == signal.SIGKILL else 128 + number
        if process.exitcode != wanted:
            raise RuntimeError(f"exit code {process.exitcode}:\n{training.log.read_text()}")
    training.finish()
    tally.sittings += 1
    tally.seconds = time.monotonic() - began
    return tally


def _wait_until(process: BaseProcess, condition: Callable[[], bool]) -> None:
    while process.is_alive() and not condition():
        time.sleep(0.002)


def final_bits(run: Path) -> tuple[int, str, list[dict[str, Any]]]:
    """Step, digest of the newest checkpoint's state, and all logged metrics."""
    (memory,) = sorted((run / "checkpoints").glob("*/memory/metadata"), key=_step_of)[-1:]
    content = json.loads(memory.read_text())
    return _step_of(memory), content["digest"], files.read_json_lines(run / "metrics.jsonl")


def _step_of(memory: Path) -> int:
    return int(memory.parent.parent.name)


def main() -> None:
    """Runs an unbroken and a broken training, and compares them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, help="default: four for each kill")
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_dir", help="where the prepared set lives")
    options = parser.parse_args()
    arguments = [*SETTINGS, f"--config.train.epochs={options.epochs or 4 * options.kills}"]
    if options.data_dir:
        arguments.append(f"--config.data.dir={options.data_dir}")
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        whole, broken = (Training(folder, arguments) for folder in folders)
        began = time.monotonic()
        whole.finish()
        print(f"unbroken: {time.monotonic() - began:.0f} s", flush=True)
        number = getattr(signal, f"SIG{options.signal}")
        print(crash(broken, options.kills, options.seed, number))
        expected, found = final_bits(whole.run), final_bits(broken.run)
        print(f"step {found[0]:,}, state {found[1][:16]}; unbroken {expected[1][:16]}")
        if found != expected:
            sys.exit("the bits differ")
        print("the same bits and the same metrics")


if __name__ == "__main__":
    main()
