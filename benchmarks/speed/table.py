"""Markdown tables of a results file.

    python -m benchmarks.speed.table [runs/speed/speed.json]

A ratio of two contenders is the median of their speed ratios within rounds. The best peer of a
precision, or of any, has the highest median speed. "Of ceiling" is the achieved arithmetic rate as
a share of the fastest matrix product of the same precision.
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
"""A task's entry in the results file."""


def is_ours(name: str) -> bool:
    """Returns whether a contender is fer_jax."""
    return CONTENDERS[name].is_ours


def speed(result: Mapping[str, Any]) -> float | None:
    """Returns the median images per second; None without rounds."""
    return statistics.median(result["rounds"]) if result.get("rounds") else None


def best(task: Task, ours: bool, precision: str | None = None) -> str | None:
    """Returns the fastest contender of fer_jax or of the peers; None if there is none.

    Args:
      task: the entry of the task.
      ours: fer_jax's contenders, or the peers.
      precision: None for any.
    """
    speeds = {
        name: rate
        for name, result in task["contenders"].items()
        if is_ours(name) == ours
        and precision in (None, result["precision"])
        and (rate := speed(result)) is not None
        and "failed" not in result
    }
    return max(speeds, key=lambda name: speeds[name], default=None)


def ratio(task: Task, name: str | None, other: str | None) -> float | None:
    """Returns the speed of `name` relative to `other`; None if one is missing."""
    if name is None or other is None:
        return None
    rounds, others = (task["contenders"][one]["rounds"] for one in (name, other))
    pairs = zip(rounds, others, strict=False)  # one may have been stopped early
    return statistics.median(mine / theirs for mine, theirs in pairs)


def ceiling(task: Task, figure: str) -> float | None:
    """Returns the best library's median of a precision (GFLOP/s) or of "copy" (GB/s)."""
    medians = [
        statistics.median(values[figure] for values in result["rounds"])
        for result in task["ceilings"].values()
        if result.get("rounds") and figure in result["rounds"][0]
    ]
    return max(medians, default=None)


def flops_per_image(task: Task) -> int | None:
    """Returns fer_jax's count; None if it did not take part."""
    counts = (
        result.get("facts", {}).get("flops_per_image") for result in task["contenders"].values()
    )
    return next((count for count in counts if count), None)


def share(task: Task, name: str) -> float | None:
    """Returns the arithmetic rate as a share of the ceiling; None if one is unknown."""
    result = task["contenders"][name]
    limit, work, rate = ceiling(task, result["precision"]), flops_per_image(task), speed(result)
    return None if limit is None or work is None or rate is None else rate * work / 1e9 / limit


def figure(value: float | None, spec: str) -> str:
    """Formats a value; a dash for None."""
    return NOTHING if value is None else format(value, spec)


def memory(result: Mapping[str, Any]) -> str:
    """Formats the peak MiB of main memory, and of the accelerator if there is one."""
    peaks = [result.get(name) for name in ("peak_bytes", "device_peak_bytes")]
    return " + ".join(f"{peak / 2**20:,.0f}" for peak in peaks if peak) or NOTHING


def row(cells: list[str]) -> str:
    """Formats a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def contender_cells(task: Task, name: str) -> list[str]:
    """Returns the cells of a contender's row."""
    result = task["contenders"][name]
    rounds, rate = result.get("rounds", []), speed(result)
    peer = best(task, ours=False, precision=result["precision"])
    cold, warm = [*result["seconds_to_first_step"], None, None][:2]
    work = result.get("cpu_ms_per_image")
    note = result.get("facts", {}).get("note", "")
    if "failed" in result:
        note = f"failed: {result['failed']}"
    elif "ended_early" in result:
        note = f"stopped after one round: {result['ended_early']}"
    spread = f" ({min(rounds):.4g} to {max(rounds):.4g})" if len(rounds) > 1 else ""
    return [
        name,
        result["precision"],
        figure(rate, ".4g") + spread,
        figure(None if rate is None else ratio(task, name, peer), ".2f"),
        figure(share(task, name), ".0%"),
        figure(statistics.median(work) if work else None, ".4g"),
        figure(cold, ".1f"),
        figure(warm, ".1f"),
        memory(result),
        note.replace("|", "/"),
    ]


HEADER = [
    "contender", "precision or source", "images/s (range)", "of best peer", "of ceiling",
    "CPU ms/image", "cold start, s", "warm start, s", "peak MiB (+ device)", "note",
]  # fmt: skip


def details(task: Task, name: str) -> Iterator[str]:
    """Yields the lines of a task's section: its contenders, fastest first."""
    yield f"### {name}"
    yield ""
    contenders, machine = task["contenders"], task["machine"]
    rounds = max((len(result.get("rounds", [])) for result in contenders.values()), default=0)
    work = flops_per_image(task)
    yield f"`{task['command']}`"
    yield ""
    yield (
        f"{task['date'][:10]}, {machine['cores']} cores ({machine['processor']}), load average "
        f"{machine['load']:.1f} before the start, {rounds} rounds"
        + (f", {work / 1e9:.3g} GFLOP/image." if work else ".")
    )
    ceilings = {name: ceiling(task, name) for name in ("float32", "tf32", "bfloat16", "copy")}
    texts = [
        f"{name} {limit:,.0f} {'GB/s' if name == 'copy' else 'GFLOP/s'}"
        for name, limit in ceilings.items()
        if limit
    ]
    if texts:
        yield f"Ceilings in the same rounds: {', '.join(texts)}."
    yield ""
    yield row(HEADER)
    yield row(["---"] * len(HEADER))
    for contender in sorted(contenders, key=lambda one: -(speed(contenders[one]) or 0)):
        yield row(contender_cells(task, contender))
    yield ""


def precisions(task: Task) -> list[str | None]:
    """Returns fer_jax's precisions or image sources; for networks also None, any precision."""
    contenders = task["contenders"]
    ours = dict.fromkeys(contenders[name]["precision"] for name in contenders if is_ours(name))
    return [*ours, None] if task["task"]["kind"] in ("train", "infer") else [*ours]


SUMMARY = ["task", "precision or source", "fer_jax, images/s", "best peer, images/s", "ratio"]


def summary(tasks: Mapping[str, Task]) -> Iterator[str]:
    """Yields a table of fer_jax and the best peer, one row per task and precision or source."""
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


def versions_text(tasks: Mapping[str, Task]) -> str:
    """Returns the versions of all libraries that took part, as text."""
    versions: dict[str, str] = {}
    for task in tasks.values():
        versions["python"] = task["machine"]["python"]
        for result in [*task["contenders"].values(), *task["ceilings"].values()]:
            versions |= result.get("facts", {}).get("versions", {})
    return ", ".join(f"{library} {version}" for library, version in versions.items())


def document(tasks: Mapping[str, Task]) -> str:
    """Returns the whole page: summary, versions, details."""
    lines = [*summary(tasks), versions_text(tasks), ""]
    for name, task in tasks.items():
        lines += details(task, name)
    return "\n".join(lines)


def read(path: Path) -> dict[str, Task]:
    """Returns the tasks of a results file, sorted by kind, inference batch, network and size.

    Raises:
      UserError: the file does not exist.
    """
    if not path.is_file():
        raise UserError(
            f"expected results of `python -m benchmarks.speed`, found no file {path}; run it first"
        )

    def sort_key(item: tuple[str, Task]) -> tuple[int, ...]:
        task = item[1]["task"]
        batch = task["batch"] if task["kind"] == "infer" else 0
        model = list(SIZES).index(task["model"]) if task["model"] in SIZES else 0
        return KINDS.index(task["kind"]), batch, model, task["size"]

    return dict(sorted(json.loads(path.read_text())["tasks"].items(), key=sort_key))


def sections(content: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines of the sections of `benchmarks.gpu`, if the results file has any."""
    if "sections" not in content:
        return
    found = ", ".join(f"{library} {version}" for library, version in content["versions"].items())
    yield f"{'Toy sizes on CPUs, not a measurement. ' if content['toy'] else ''}{found}"
    for name, result in content["sections"].items():
        yield f"\n### {name}\n"
        if "failed" in result:
            yield f"failed: {result['failed']}"
        if rows := result.get("rows"):
            yield row(list(rows[0]))
            yield row(["---"] * len(rows[0]))
            for cells in rows:
                yield row([_cell(value).replace("|", "/") for value in cells.values()])


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else figure(value, ".4g")


def main() -> None:
    """Prints the tables of a results file."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/speed/speed.json")
    print(document(read(path)))
    print("\n".join(sections(json.loads(path.read_text()))))


if __name__ == "__main__":
    with errors.exit_cleanly():
        main()
