"""Ranks runs by their test accuracy, compares them in pairs, and data sets against each other.

fer-jax summary runs/* --out summary
fer-jax summary runs/* --paper
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_jax import files
from fer_jax.experiments import comparison, ranking
from fer_jax.experiments import comparison_tables as tables
from fer_jax.files import local_path


def main(arguments: Sequence[str]) -> None:
    """Prints the tables, and writes them where a folder is named.

    Raises:
      UserError: no run has a report, or the folder cannot be written.
    """
    options = parse(arguments)
    reports, remarks = comparison.read_runs(options.runs)
    for remark in remarks:
        print(f"skipped: {remark}", file=sys.stderr)
    for path in show(reports, options.out, options.paper):
        print(path)


def show(
    reports: Sequence[comparison.RunReport], out: Path | None, paper: bool = False
) -> list[Path]:
    """Prints the tables; returns the files that it writes, none without a folder.

    Args:
      reports: of the runs.
      out: folder of the files.
      paper: begin with the paper's Table 1.
    """
    rankings = ranking.rank(reports)
    shown = [table for one in rankings for table in tables.ranking_tables(one)]
    rows = comparison.table_1(reports) if paper else []
    if paper:
        shown.insert(0, tables.paper_table(rows))
    if matrix := comparison.cross_matrix(reports):
        shown.append(tables.matrix_table(matrix))
    print(tables.markdown(shown))
    if out is None:
        return []
    contents = {
        "summary.md": tables.markdown(shown),
        "summary.csv": tables.ranking_csv(rankings),
        "pairs.csv": tables.pairs_csv(rankings),
        "summary.html": tables.as_html(shown),
        "summary.tex": tables.as_latex(shown),
    }
    if paper:
        contents["table_1.csv"] = tables.as_csv(rows)
    return [files.write_text(out / name, text) for name, text in contents.items()]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax summary", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("runs", type=local_path, nargs="+", help="run directories, such as runs/*")
    parser.add_argument(
        "--out", type=local_path, help="folder for summary.md, .csv, .html and .tex"
    )
    parser.add_argument(
        "--paper", action="store_true", help="begin with the paper's Table 1 beside the runs"
    )
    return parser.parse_args(arguments)
