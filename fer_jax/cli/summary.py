"""Tabulates the reports of runs beside the paper's Table 1, and data sets against each other.

fer-jax summary runs/* --out summary
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_jax import files
from fer_jax.experiments import comparison
from fer_jax.experiments.comparison_tables import as_csv, as_html, markdown


def main(arguments: Sequence[str]) -> None:
    """Prints the tables, and writes them where a folder is named.

    Raises:
      UserError: no run has a report, or the folder cannot be written.
    """
    options = parse(arguments)
    reports, remarks = comparison.read_runs(options.runs)
    lines, matrix = comparison.table_1(reports), comparison.cross_matrix(reports)
    for remark in remarks:
        print(f"skipped: {remark}", file=sys.stderr)
    print(markdown(lines, matrix))
    if options.out:
        for name, text in (
            ("summary.md", markdown(lines, matrix)),
            ("summary.csv", as_csv(lines)),
            ("summary.html", as_html(lines, matrix)),
        ):
            print(files.write_text(options.out / name, text))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax summary", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, such as runs/*")
    parser.add_argument("--out", type=Path, help="folder for summary.md, .csv and .html")
    return parser.parse_args(arguments)
