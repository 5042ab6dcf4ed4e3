"""Command line of the speed benchmark: `python -m benchmarks.speed --help`."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.runner import ROOT, Options, Result, measure
from benchmarks.speed.tasks import (
    CEILINGS,
    CONTENDERS,
    INFERENCE_BATCHES,
    KINDS,
    LOADED,
    LOADED_BATCH,
    PAPER_MODELS,
    SIZES,
    Contender,
    Task,
    contenders_of,
)

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Speed of training and inference beside PyTorch, Keras and ONNX Runtime.",
    )
    names = lambda text: text.split(",")  # noqa: E731
    add = parser.add_argument
    add("--kinds", type=names, default=list(KINDS), help=f"of {', '.join(KINDS)}")
    add("--models", type=names, default=list(PAPER_MODELS), help=f"of {', '.join(SIZES)}")
    add("--contenders", type=names, help=f"of {', '.join(CONTENDERS)}; default: all")
    add("--ceilings", type=names, default=list(CEILINGS), help="ceiling measurements; '' for none")
    add("--size", type=int, help="image side, pixels; default: the paper's")
    add("--batch", type=int, help="default: the paper's; 1 and 32 for inference")
    add("--rounds", type=int, default=7)
    add("--seconds", type=float, default=2.0, help="measured half of a turn")
    add("--limit", type=float, default=300.0, help="time limit of a start or a turn, s")
    add("--starts", type=int, choices=(1, 2), default=1, help="2: also measure a warm start")
    add("--keep", type=float, default=0.7, help="stop peers below this share of the best peer")
    add("--caches", type=Path, help="reuse compiled programs; no cold starts then")
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    peers = str(PEERS_PYTHON) if PEERS_PYTHON.exists() else sys.executable
    add("--peers", default=peers, help="Python with the other libraries")
    out = Path("runs/speed/speed.json")
    add("--out", type=Path, default=out, help="results file; other tasks in it are kept")
    options = parser.parse_args(arguments)
    for field, known in (("kinds", KINDS), ("models", SIZES), ("contenders", CONTENDERS)):
        unknown = set(getattr(options, field) or ()) - set(known)
        if unknown:
            parser.error(f"expected --{field} of {', '.join(known)}, found {', '.join(unknown)}")
    options.ceilings = [name for name in options.ceilings if name]
    return options


def tasks(options: argparse.Namespace) -> list[Task]:
    """Returns the tasks in the order of measurement."""
    return [task for kind in options.kinds for task in _of_kind(kind, options)]


def _of_kind(kind: str, options: argparse.Namespace) -> Iterator[Task]:
    if kind in LOADED:
        for size in (options.size,) if options.size else LOADED[kind]:
            yield Task(kind, "images", size, options.batch or LOADED_BATCH)
        return
    for model in options.models:
        size, batch = SIZES[model]
        batches = (batch,) if kind == "train" else INFERENCE_BATCHES
        for one in (options.batch,) if options.batch else batches:
            yield Task(kind, model, options.size or size, one)


def chosen_contenders(task: Task, options: argparse.Namespace) -> dict[str, Contender]:
    """Returns the contenders of a task: all that support it, or those that the user names."""
    supported = contenders_of(task, options.device)
    names = options.contenders or supported
    return {name: supported[name] for name in names if name in supported}


def machine() -> dict[str, Any]:
    """Returns a description of this machine."""
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    except OSError:
        pass
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measures task by task and saves the results after every round."""
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the contenders too
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(options.out.read_text()) if options.out.exists() else {"tasks": {}}
    settings = Options(
        options.peers, options.device, options.threads, options.rounds, options.seconds,
        options.limit, options.starts, options.keep, options.out.parent / "logs", options.caches,
    )  # fmt: skip
    for task in tasks(options):
        header = {
            "task": dataclasses.asdict(task),
            "date": datetime.datetime.now().isoformat(timespec="minutes"),
            "command": " ".join(["python -m benchmarks.speed", *sys.argv[1:]]),
            "machine": machine(),
            "device": options.device,
            "threads": options.threads,
        }

        def save(result: Result, header: Result = header, key: str = task.name) -> None:
            content["tasks"][key] = header | result
            part = options.out.with_suffix(".part")
            part.write_text(json.dumps(content, indent=1) + "\n")
            part.replace(options.out)

        ceilings = () if task.kind in LOADED else options.ceilings
        measure(task, chosen_contenders(task, options), ceilings, settings, save)


if __name__ == "__main__":
    main()
