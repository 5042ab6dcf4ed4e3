"""Tables of what was measured, as Markdown.

    python -m benchmarks.speed.table [runs/speed/speed.json]

A ratio is that of two speeds of the same round, the median over the rounds that both had. The
best peer of a precision has the highest median; of any precision, likewise. A share of the
ceiling is that of the arithmetic done to the fastest matrix product of the same precision.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.speed.tasks import CONTENDERS, KINDS, SIZES
from fer_jax import errors
from fer_jax.errors import UserError

NOTHING = "-"

Task = Mapping[str, Any]
"""What the results' file has of a task."""


def is_ours(name: str) -> bool:
    """Whether a contender is fer_jax."""
    return CONTENDERS[name].is_ours


def speed(result: Mapping[str, Any]) -> float | None:
    """Images per second, the median; None if there is no round."""
    return statistics.median(result["rounds"]) if result.get("rounds") else None


def best(task: Task, ours: bool, precision: str | None = None) -> str | None:
    """The fastest of us or of the peers, in one precision or any; None if there is none."""
    speeds = {
        name: found
        for name, result in task["contenders"].items()
        if is_ours(name) == ours
        and precision in (None, result["precision"])
        and (found := speed(result)) is not None
        and "failed" not in result
    }
    return max(speeds, key=lambda name: speeds[name], default=None)


def ratio(task: Task, name: str | None, other: str | None) -> float | None:
    """How many times as fast as `other` a contender is; None where one is missing."""
    if name is None or other is None:
        return None
    rounds, others = (task["contenders"][one]["rounds"] for one in (name, other))
    pairs = zip(rounds, others, strict=False)  # one of them may have ended early
    return statistics.median(mine / theirs for mine, theirs in pairs)


def ceiling(task: Task, figure: str) -> float | None:
    """The best library's median of a figure: a precision (GFLOP/s), or "copy" (GB/s)."""
    found = [
        statistics.median(one[figure] for one in result["rounds"])
        for result in task["ceilings"].values()
        if result.get("rounds") and figure in result["rounds"][0]
    ]
    return max(found, default=None)


def flops_per_image(task: Task) -> int | None:
    """Counted by fer_jax; None where it did not take part."""
    counts = (
        result.get("facts", {}).get("flops_per_image") for result in task["contenders"].values()
    )
    return next((count for count in counts if count), None)


def share(task: Task, name: str) -> float | None:
    """Of the fastest matrix product of the contender's precision."""
    result = task["contenders"][name]
    most, work, rate = ceiling(task, result["precision"]), flops_per_image(task), speed(result)
    return None if most is None or work is None or rate is None else rate * work / 1e9 / most


def figure(value: float | None, form: str) -> str:
    """A value in a form, or a dash."""
    return NOTHING if value is None else format(value, form)


def memory(result: Mapping[str, Any]) -> str:
    """Peak MiB of main memory, and of the device where there is one beside it."""
    peaks = [result.get(name) for name in ("peak_bytes", "device_peak_bytes")]
    return " + ".join(f"{peak / 2**20:,.0f}" for peak in peaks if peak) or NOTHING


def row(cells: list[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def contender_cells(task: Task, name: str) -> list[str]:
    """The line of a contender."""
    result = task["contenders"][name]
    rounds, rate = result.get("rounds", []), speed(result)
    peer = best(task, ours=False, precision=result["precision"])
    to_first = [*result["seconds_to_first_step"], None, None][:2]
    work = result.get("cpu_ms_per_image")
    remark = result.get("facts", {}).get("remark", "")
    if "failed" in result:
        remark = f"failed: {result['failed']}"
    elif "ended_early" in result:
        remark = f"one round: {result['ended_early']}"
    spread = f" ({min(rounds):.4g} to {max(rounds):.4g})" if len(rounds) > 1 else ""
    return [
        name,
        result["precision"],
        figure(rate, ".4g") + spread,
        figure(None if rate is None else ratio(task, name, peer), ".2f"),
        figure(share(task, name), ".0%"),
        figure(statistics.median(work) if work else None, ".4g"),
        figure(to_first[0], ".1f"),
        figure(to_first[1], ".1f"),
        memory(result),
        remark.replace("|", "/"),
    ]


HEADER = [
    "contender", "precision or source", "images/s (range)", "of best peer", "of ceiling",
    "CPU ms an image", "first step cold, s", "warm, s", "peak MiB (+ device)", "remark",
]  # fmt: skip


def details(task: Task, name: str) -> Iterator[str]:
    """All contenders of a task, fastest first."""
    yield f"### {name}"
    yield ""
    rounds = max((len(one.get("rounds", [])) for one in task["contenders"].values()), default=0)
    machine = task["machine"]
    work = flops_per_image(task)
    yield (
        f"`{task['command']}`, {task['date'][:10]}, {machine['cores']} cores "
        f"({machine['processor']}), load before it {machine['load']:.1f}, {rounds} rounds"
        + (f"; {work / 1e9:.3g} GFLOP an image." if work else ".")
    )
    known = {one: ceiling(task, one) for one in ("float32", "tf32", "bfloat16", "copy")}
    units = {"copy": "GB/s"}
    said = [f"{one} {most:,.0f} {units.get(one, 'GFLOP/s')}" for one, most in known.items() if most]
    if said:
        yield f"Ceilings, at the same time: {', '.join(said)}."
    yield ""
    yield row(HEADER)
    yield row(["---"] * len(HEADER))
    contenders = task["contenders"]
    for one in sorted(contenders, key=lambda one: -(speed(contenders[one]) or 0)):
        yield row(contender_cells(task, one))
    yield ""


def precisions(task: Task) -> list[str | None]:
    """Those, or the sources, that fer_jax took part in; networks also in any, None."""
    contenders = task["contenders"]
    ours = dict.fromkeys(contenders[name]["precision"] for name in contenders if is_ours(name))
    return [*ours, None] if task["task"]["kind"] in ("train", "infer") else [*ours]


SUMMARY = ["task", "precision or source", "fer_jax, images/s", "best peer, images/s", "ratio"]


def summary(tasks: Mapping[str, Task]) -> Iterator[str]:
    """Us against the best peer, a line for each precision or source; networks also in any."""
    yield row(SUMMARY)
    yield row(["---"] * len(SUMMARY))
    for name, task in tasks.items():
        contenders = task["contenders"]
        for precision in precisions(task):
            pair = [best(task, ours, precision) for ours in (True, False)]
            rates = [speed(contenders[one]) if one else None for one in pair]
            cells = [
                f"{figure(rate, '.4g')} ({one})" if one else NOTHING
                for one, rate in zip(pair, rates, strict=True)
            ]
            yield row([name, precision or "any", *cells, figure(ratio(task, *pair), ".2f")])
    yield ""


def versions(tasks: Mapping[str, Task]) -> str:
    """Of all libraries that took part."""
    found: dict[str, str] = {}
    for task in tasks.values():
        found["python"] = task["machine"]["python"]
        for result in [*task["contenders"].values(), *task["ceilings"].values()]:
            found |= result.get("facts", {}).get("versions", {})
    return ", ".join(f"{library} {version}" for library, version in found.items())


def document(tasks: Mapping[str, Task]) -> str:
    """Summary and details."""
    lines = [*summary(tasks), versions(tasks), ""]
    for name, task in tasks.items():
        lines += details(task, name)
    return "\n".join(lines)


def read(path: Path) -> dict[str, Task]:
    """The tasks of a results' file: by kind, then by batch of a network and by network.

    Raises:
      UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"expected results of `python -m benchmarks.speed`, found no file {path}")

    def place(item: tuple[str, Task]) -> tuple[int, ...]:
        task = item[1]["task"]
        batch = task["batch"] if task["kind"] == "infer" else 0
        model = list(SIZES).index(task["model"]) if task["model"] in SIZES else 0
        return KINDS.index(task["kind"]), batch, model, task["size"]

    return dict(sorted(json.loads(path.read_text())["tasks"].items(), key=place))


def main() -> None:
    """Prints the tables of a results' file."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/speed/speed.json")
    print(document(read(path)))


if __name__ == "__main__":
    with errors.exit_cleanly():
        main()
