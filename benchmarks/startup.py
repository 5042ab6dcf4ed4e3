"""Time and memory, from start to end, of short commands and of `fer-jax predict` on one photo.

    python -m benchmarks.startup [--run runs/demo] [--rounds 5] [--checkout ../before]

Each measurement is a new process, interpreter included; figures are medians over the rounds after a
warm-up round. `fer_jax.load` is measured with `--run`, a run directory; `predict` reads a rendered
photo with the shipped model. With `--checkout`, another
checkout of the project alternates with this one, in the same virtual environment.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.compile import ROOT, checkout_environment


def measure(arguments: list[str], checkout: Path, cache: Path) -> tuple[float, float, float]:
    """Runs Python with `arguments` in a checkout.

    Returns:
      Wall seconds, CPU seconds and peak MiB of the process.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", *arguments],
        cwd=checkout, env=checkout_environment(checkout, cache), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python {' '.join(arguments)} in {checkout} failed")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**10


def main() -> None:
    """Prints a row per command and checkout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, help="run directory, such as runs/demo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkout", type=Path, help="another checkout to compare with")
    options = parser.parse_args()
    commands = {
        "python -c pass": ["-c", "pass"],
        "import fer_jax": ["-c", "import fer_jax"],
        "fer-jax train --help": ["-m", "fer_jax.main", "--help"],
    }
    photo = str(ROOT / "fer_jax/serve/examples/1_happiness.jpg")
    commands["fer-jax predict PHOTO"] = ["-m", "fer_jax", "predict", photo]
    if options.run:
        code = f"import fer_jax; fer_jax.load({str(options.run.resolve())!r})"
        commands["fer_jax.load"] = ["-c", code]
    checkouts = {ROOT.name: ROOT}
    if options.checkout:
        checkouts[options.checkout.name] = options.checkout.resolve()
    rows: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(options.rounds + 1):
            for command, arguments in commands.items():
                for name, checkout in checkouts.items():
                    figures = measure(arguments, checkout, Path(cache) / name)
                    if number:  # the first round is a warm-up
                        rows.setdefault((command, name), []).append(figures)
    print("| command | checkout | seconds | CPU s | peak MiB |\n|---|---|---|---|---|")
    for (command, name), rounds in rows.items():
        seconds, cpu, peak = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {command} | {name} | {seconds:.2f} | {cpu:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
