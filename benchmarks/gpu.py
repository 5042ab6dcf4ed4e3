"""fer_jax on a GPU, in sections that fit two commands of five minutes; see `benchmarks/gpu.sh`.

    python -m benchmarks.gpu 1 [--toy] [--out FILE]

Each section is a process with a time limit. Its rows, or the reason why it has none, are saved when
it ends, and the next one starts. `python -m benchmarks.speed.table FILE` prints everything.

While the first section of a command runs, whose speed does not matter, PyTorch compiles the
command's networks into its cache. fer_jax compiles when its turn comes, alone on the GPU, because
XLA chooses its kernels by timing them.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.speed.__main__ import machine
from benchmarks.speed.runner import ROOT
from fer_jax import files

END_SECONDS = 10  # in which a section that ran out of time ends its own processes
OURS, PEERS = "fer_jax_tf32,fer_jax_bf16", "torch_compile_tf32_cl,torch_compile_bf16_cl"


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the measurement.

    Attributes:
      command: 1 or 2.
      seconds: time limit; less where less is left of the command.
      batch: of a network; None for the other sections.
      peers: PyTorch's contenders for a network.
    """

    command: int
    seconds: float
    batch: int | None = None
    peers: str = PEERS


SECTIONS: Mapping[str, Section] = {
    "correctness": Section(1, 75),
    # Launches dominate small networks: PyTorch has CUDA graphs against them.
    "light_vgg": Section(1, 80, 1024, f"{PEERS},torch_graphs_bf16_cl"),
    "vgg16": Section(1, 80, 128),
    "resnet18": Section(1, 80, 256),
    "custom_cnn": Section(1, 80, 128),
    "demo": Section(2, 90),
    "dispatch": Section(2, 45),
    "stores": Section(2, 45),
    "profile": Section(2, 45),
    "resnet50": Section(2, 110, 128),
    "inception_resnet_v2": Section(2, 200, 64),
}
"""In the order of each command: what may not fit comes last. `memory` follows, which is derived."""

TOY = ("correctness", "light_vgg", "demo", "dispatch", "stores", "profile")


def command_of(name: str, seconds: float, options: argparse.Namespace) -> list[str]:
    """Returns the command line of a section."""
    if SECTIONS[name].batch is None:
        given = ["benchmarks.gpu_sections", name, str(options.out.parent)]
        return [sys.executable, "-m", *given, *(["--toy"] if options.toy else [])]
    return speed_command(name, options, f"{OURS},{SECTIONS[name].peers}", options.out, seconds)


def speed_command(
    name: str, options: argparse.Namespace, contenders: str, out: Path, seconds: float
) -> list[str]:
    """Returns the command line that measures a network's training; rounds of about a second."""
    sizes = ["--batch", str(SECTIONS[name].batch), "--device", "gpu", "--rounds", "3"]
    if options.toy:
        contenders = "fer_jax,torch_compile_cl"
        sizes = ["--batch", "2", "--size", "8", "--rounds", "1"]
    return [
        sys.executable, "-m", "benchmarks.speed", "--kinds", "train", "--models", name, *sizes,
        "--contenders", contenders, "--ceilings", "",
        "--seconds", "0.01" if options.toy else "1", "--limit", f"{seconds:.0f}", "--keep", "0",
        "--peers", sys.executable, "--out", str(out), "--caches", str(out.parent / "caches"),
    ]  # fmt: skip


def compile_peers(names: Sequence[str], options: argparse.Namespace) -> list[subprocess.Popen[str]]:
    """Starts filling PyTorch's cache of compiled networks, all at once and in the background."""
    processes = []
    for name in () if options.toy else names:
        out = options.out.parent / f"compile_{name}.json"
        command = speed_command(name, options, SECTIONS[name].peers, out, 120)
        command += ["--rounds", "1", "--seconds", "0.01"]
        processes.append(start(command, options.out.parent / f"compile_{name}.log"))
    return processes


def start(command: Sequence[str], log: Path) -> subprocess.Popen[str]:
    """Starts a process group whose errors go to a file."""
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    with log.open("w") as errors:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True,
        )  # fmt: skip


def finish(process: subprocess.Popen[str], seconds: float) -> str:
    """Returns the output of a process; ends it, and raises TimeoutExpired, after `seconds`."""
    try:
        return process.communicate(timeout=max(0.0, seconds))[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # benchmarks.speed then ends its contenders
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=END_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


def measure(name: str, seconds: float, options: argparse.Namespace) -> dict[str, Any]:
    """Runs a section within `seconds`: returns its rows, or why it failed."""
    log = options.out.parent / f"{name}.log"
    process = start(command_of(name, seconds, options), log)
    try:
        output = finish(process, seconds)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {seconds:.0f} s"}
    if process.returncode:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        errors = [line for line in lines if re.match(r"[\w.]*Error", line)]
        return {"failed": f"ended with code {process.returncode}: {(errors or lines)[-1][:300]}"}
    if SECTIONS[name].batch is None:
        return {"rows": json.loads(output.splitlines()[-1])}
    failed = [
        f"{contender}: {result['failed']}"
        for task in json.loads(options.out.read_text())["tasks"].values()
        if task["task"]["model"] == name
        for contender, result in task["contenders"].items()
        if "failed" in result
    ]
    return {"failed": "; ".join(failed)} if failed else {}


def versions() -> dict[str, str]:
    """Returns the version of each package that fer_jax requires, and of PyTorch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for name in [*(re.split(r"[^\w-]", one)[0] for one in project["dependencies"]), "torch"]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def main() -> None:
    """Runs the sections of a command one by one and saves the results after each."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description="Measures on a GPU.")
    parser.add_argument("command", type=int, choices=(1, 2))
    parser.add_argument("--toy", action="store_true", help="tiny sizes, on CPUs")
    parser.add_argument("--out", type=Path, help="default: runs/gpu/gpu.json, or toy.json")
    parser.add_argument("--budget", type=float, default=290, help="time of the command, s")
    options = parser.parse_args()
    default = Path("runs/gpu", "toy.json" if options.toy else "gpu.json")
    options.out = (options.out or default).resolve()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name, one in SECTIONS.items() if one.command == options.command]
    names = [name for name in names if not options.toy or name in TOY]
    compiling = compile_peers([name for name in names if SECTIONS[name].batch], options)
    for place, name in enumerate(names):
        left = options.budget - END_SECONDS - (time.monotonic() - began)
        seconds = left if options.toy else min(left, SECTIONS[name].seconds)
        before = time.monotonic()
        result = {"failed": "no time was left"} if left < 1 else measure(name, seconds, options)
        result |= {"seconds": time.monotonic() - before}
        save(options, name, result)
        print(f"{name}: {result.get('failed', 'done')}, {result['seconds']:.0f} s", flush=True)
        if place == 0:
            for process in compiling:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    finish(process, SECTIONS[name].seconds - (time.monotonic() - began))


def save(options: argparse.Namespace, name: str, result: Mapping[str, Any]) -> None:
    """Adds a section to the results file, in which the networks' speeds are already."""
    content = json.loads(options.out.read_text()) if options.out.exists() else {}
    content |= {"toy": options.toy, "versions": versions(), "gpu": machine()}
    tasks = content.setdefault("tasks", {})
    sections = content.setdefault("sections", {})
    sections[name] = result
    sections["memory"] = {"rows": memory(tasks)}
    files.write_text(options.out, json.dumps(content, indent=1) + "\n")


def memory(tasks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the peak MiB of each network's training: of the device, as the library reports it."""
    return [
        {"task": name, "contender": contender}
        | {
            column: None if (peak := result[key]) is None else peak / 2**20
            for column, key in (("device", "device_peak_bytes"), ("host", "peak_bytes"))
        }
        for name, task in tasks.items()
        for contender, result in task["contenders"].items()
        if "peak_bytes" in result
    ]


if __name__ == "__main__":
    main()
