"""The command line: `python -m benchmarks.speed --help`."""

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

from benchmarks.speed.runner import ROOT, Options, measure
from benchmarks.speed.tasks import (
    CEILINGS,
    CONTENDERS,
    INFERENCE_BATCHES,
    KINDS,
    LOADED,
    LOADED_BATCH,
    SIZES,
    Contender,
    Task,
    taking_part,
)

PEERS = ROOT / ".venv-peers" / "bin" / "python"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Measures training steps and inference against PyTorch and Keras.",
    )
    names = lambda text: text.split(",")  # noqa: E731
    add = parser.add_argument
    add("--kinds", type=names, default=list(KINDS), help=f"of {', '.join(KINDS)}")
    add("--models", type=names, default=list(SIZES), help=f"of {', '.join(SIZES)}")
    add("--contenders", type=names, help=f"of {', '.join(CONTENDERS)}; default: all that can")
    add("--ceilings", type=names, default=list(CEILINGS), help="'' for none")
    add("--size", type=int, help="pixels; default: the paper's")
    add("--batch", type=int, help="default: the paper's; of inference 1 and 32")
    add("--rounds", type=int, default=7)
    add("--seconds", type=float, default=2.0, help="of a turn's second half, which counts")
    add("--limit", type=float, default=300.0, help="seconds that a start or a turn may take")
    add("--starts", type=int, choices=(1, 2), default=1, help="2: also time a warm start")
    add("--keep", type=float, default=0.7, help="end peers below this share of the best peer")
    add("--caches", type=Path, help="keep compiled programs here; cold starts are not timed then")
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--peers", default=str(PEERS) if PEERS.exists() else sys.executable, help="their Python")
    add("--out", type=Path, default=Path("runs/speed/speed.json"), help="other tasks in it stay")
    options = parser.parse_args(given)
    for field, known in (("kinds", KINDS), ("models", SIZES), ("contenders", CONTENDERS)):
        unknown = set(getattr(options, field) or ()) - set(known)
        if unknown:
            parser.error(f"expected --{field} of {', '.join(known)}, found {', '.join(unknown)}")
    options.ceilings = [name for name in options.ceilings if name]
    return options


def tasks(options: argparse.Namespace) -> list[Task]:
    """In the order in which they are measured."""
    return [task for kind in options.kinds for task in _of_kind(kind, options)]


def _of_kind(kind: str, options: argparse.Namespace) -> Iterator[Task]:
    if kind in LOADED:
        for size in (options.size,) if options.size else LOADED[kind]:
            yield Task(kind, "pictures", size, options.batch or LOADED_BATCH)
        return
    for model in options.models:
        size, batch = SIZES[model]
        batches = (batch,) if kind == "train" else INFERENCE_BATCHES
        for one in (options.batch,) if options.batch else batches:
            yield Task(kind, model, options.size or size, one)


def chosen(task: Task, options: argparse.Namespace) -> dict[str, Contender]:
    """Those that take part; all that can, unless the user names some."""
    able = taking_part(task, options.device)
    return {name: able[name] for name in options.contenders or able if name in able}


def machine() -> dict[str, Any]:
    """What ran it."""
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        processor = named[0] if named else processor
    except OSError:
        pass
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measures task by task; the results' file is whole after every round."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the contenders end too
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(options.out.read_text()) if options.out.exists() else {"tasks": {}}
    how = Options(
        options.peers, options.device, options.threads, options.rounds, options.seconds,
        options.limit, options.starts, options.keep, options.out.parent / "logs", options.caches,
    )  # fmt: skip
    for task in tasks(options):
        begun = {
            "task": dataclasses.asdict(task),
            "date": datetime.datetime.now().isoformat(timespec="minutes"),
            "command": " ".join(["python -m benchmarks.speed", *sys.argv[1:]]),
            "machine": machine(),
            "device": options.device,
            "threads": options.threads,
        }

        def keep(found: dict[str, Any], begun: dict[str, Any] = begun, task: Task = task) -> None:
            content["tasks"][task.name] = begun | found
            part = options.out.with_suffix(".part")
            part.write_text(json.dumps(content, indent=1) + "\n")
            part.replace(options.out)

        ceilings = () if task.kind in LOADED else options.ceilings
        measure(task, chosen(task, options), ceilings, how, keep)


if __name__ == "__main__":
    main()
