"""Checks that a run killed many times ends with the same bits as an uninterrupted run.

    python -m benchmarks.crashes [--kills 100] [--signal KILL] [--seed 0]

Trains a tiny network on the synthetic faces. Of six kills two come while a checkpoint is being
saved, one during startup, the others at random times in training. Each invocation of training is
forked from a process that has imported everything and initialized no device, because imports would
take most of the time. Fails if a bit differs.
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
MAX_TRAINING_SECONDS = 0.8  # from the first step to a kill
FIRST_STEP_MESSAGE = "the first step"  # in the log when training starts


@dataclasses.dataclass
class Tally:
    """Counts of a run that was killed repeatedly.

    Attributes:
      kills: all kills.
      saving: kills while a checkpoint was being written.
      starting: kills before the first step.
      invocations: starts of training.
      seconds: from the first start to the end of the run.
    """

    kills: int = 0
    saving: int = 0
    starting: int = 0
    invocations: int = 0
    seconds: float = 0.0


def train_process(arguments: Sequence[str], log: str) -> None:
    """Runs `fer-jax train` in this process, with its output in the file `log`."""
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import jax

    from fer_jax import errors
    from fer_jax.cli import train

    jax.config.update("jax_enable_compilation_cache", True)
    with errors.exit_cleanly():
        train.main(arguments)


class Training:
    """A run that can be started repeatedly.

    Args:
      folder: contains the run directory and the log.
      arguments: of `fer-jax train`, without `--workdir`.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.run, self.log = folder / "run", folder / "log.txt"
        self._arguments = (*arguments, f"--workdir={self.run}")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["jax", "fer_jax.cli.train", "fer_jax.training.train", "fer_jax.experiments.evaluate"]
        )

    def start(self) -> BaseProcess:
        """Starts an invocation of training."""
        self.log.write_text("")
        process = self._context.Process(target=train_process, args=(self._arguments, str(self.log)))
        process.start()
        return process

    def finish(self) -> None:
        """Trains to the end."""
        process = self.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(self.log.read_text())

    @property
    def is_training(self) -> bool:
        """Whether the current invocation has reached its first step."""
        return FIRST_STEP_MESSAGE in self.log.read_text()

    @property
    def is_saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return any((self.run / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def crash(training: Training, kills: int, seed: int, number: int = signal.SIGKILL) -> Tally:
    """Sends signal `number` to `kills` invocations at random times, then trains to the end."""
    draw, tally, start = random.Random(seed), Tally(), time.monotonic()
    while tally.kills < kills:
        process = training.start()
        tally.invocations += 1
        moment = ("save", "step", "start", "save", "step", "step")[tally.kills % 6]
        if moment == "start" and number == signal.SIGKILL:
            time.sleep(draw.uniform(0, 1.5))
        else:
            _wait_until(process, lambda: training.is_training)
            time.sleep(draw.uniform(0, MAX_TRAINING_SECONDS))
        if moment == "save":
            _wait_until(process, lambda: training.is_saving)
            time.sleep(draw.uniform(0, 0.03))
        if not process.is_alive():
            raise RuntimeError(f"finished before {kills} kills:\n{training.log.read_text()}")
        tally.saving += training.is_saving
        tally.starting += not training.is_training
        os.kill(process.pid or 0, number)
        process.join()
        tally.kills += 1
        expected = -number if number == signal.SIGKILL else 128 + number
        if process.exitcode != expected:
            codes = f"expected exit code {expected}, found {process.exitcode}"
            raise RuntimeError(f"{codes}:\n{training.log.read_text()}")
    training.finish()
    tally.invocations += 1
    tally.seconds = time.monotonic() - start
    return tally


def _wait_until(process: BaseProcess, condition: Callable[[], bool]) -> None:
    while process.is_alive() and not condition():
        time.sleep(0.002)


def final_bits(run: Path) -> tuple[int, dict[str, str], list[dict[str, Any]]]:
    """Returns the newest checkpoint's step and digests, and all logged metrics."""
    (path,) = sorted((run / "checkpoints").glob("*/memory/metadata"), key=_step_of)[-1:]
    digests = json.loads(path.read_text())["digests"]
    return _step_of(path), digests, files.read_json_lines(run / "metrics.jsonl")


def _step_of(path: Path) -> int:
    return int(path.parent.parent.name)


def main() -> None:
    """Compares an uninterrupted run with one that is killed repeatedly."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, help="default: four per kill")
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_dir", help="directory of prepared data sets")
    options = parser.parse_args()
    arguments = [*SETTINGS, f"--config.train.epochs={options.epochs or 4 * options.kills}"]
    if options.data_dir:
        arguments.append(f"--config.data.dir={options.data_dir}")
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        uninterrupted, killed = (Training(folder, arguments) for folder in folders)
        start = time.monotonic()
        uninterrupted.finish()
        print(f"uninterrupted: {time.monotonic() - start:.0f} s", flush=True)
        number = getattr(signal, f"SIG{options.signal}")
        print(crash(killed, options.kills, options.seed, number))
        expected, actual = final_bits(uninterrupted.run), final_bits(killed.run)
        print(f"killed: step {actual[0]:,}, {actual[1]}")
        print(f"uninterrupted: step {expected[0]:,}, {expected[1]}")
        if actual != expected:
            sys.exit("the bits differ")
        print("same bits, same metrics")


if __name__ == "__main__":
    main()
