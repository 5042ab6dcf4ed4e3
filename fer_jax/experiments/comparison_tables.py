"""The paper's Table 1 with its figures beside those of runs, and every set against every other.

    fer-jax summary runs/* --out summary

Prints Markdown; --out writes summary.md, summary.csv and summary.html too. What was not
evaluated is not computed here: `fer-jax evaluate` does that.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterator, Sequence

from fer_jax.experiments import comparison
from fer_jax.experiments.comparison import Line, Matrix

_HEADER = (
    "data set", "paper: network", "accuracy", "ours: network", "run", "protocol",
    "folds x seeds", "pictures", "accuracy", "balanced", "marks",
)  # fmt: skip
_NUMBERS = frozenset({2, 6, 7, 8, 9})  # columns that are set flush right
_NOTE = (
    "Figures stand beside each other where the protocols agree; the paper's random splits have "
    "the same people in training and test. Intervals are 95 % bootstrap; ± is the standard "
    "deviation over seeds. The paper's splits: "
    + "; ".join(f"{one.title} {one.protocol}" for one in comparison.TABLE_1)
    + "."
)
_STYLE = """
:root { color-scheme: light dark; --line: #d5dade; --head: #f2f5f7; --mark: #a34700; }
@media (prefers-color-scheme: dark) { :root { --line: #3b434a; --head: #22282d; --mark: #ff9d57; } }
body { font: 14px/1.5 system-ui, sans-serif; max-width: 1240px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { border-bottom: 1px solid var(--line); padding: 6px 7px; text-align: left; }
td:first-child { white-space: nowrap; }
th { background: var(--head); font-weight: 600; vertical-align: bottom; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
td.marks { color: var(--mark); font-weight: 600; font-size: 0.85em; }
"""


def rows_of(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """The cells of Table 1, in the order of `_HEADER`."""
    return [_row(line) for line in lines]


def _row(line: Line) -> tuple[str, ...]:
    published = line.published
    name = published.title if published else line.runs[0].dataset
    paper = (published.network, f"{published.accuracy:.2%}") if published else ("", "")
    if not line.runs:
        return (name, *paper, "not run", *[""] * 7)
    first = line.runs[0]
    protocol = first.protocol if first.split == "test" else f"{first.protocol}, {first.split}"
    return (
        name,
        *paper,
        first.model,
        comparison.names_of(run.run for run in line.runs),
        protocol,
        f"{line.folds} x {line.seeds}",
        f"{first.count:,}",
        _accuracy(line),
        f"{line.balanced_accuracy:.2%}",
        ", ".join(first.marks),
    )


def _accuracy(line: Line) -> str:
    if line.deviation is not None:
        return f"{line.accuracy:.2%} ± {100 * line.deviation:.2f}"
    low, high = line.runs[0].interval
    return f"{line.accuracy:.2%} [{100 * low:.1f}, {100 * high:.1f}]"


def matrix_rows(matrix: Matrix) -> list[tuple[str, ...]]:
    """The cells of the cross-data-set matrix, its header first."""
    rows: list[tuple[str, ...]] = [("trained on", *matrix.evaluated)]
    for (trained, protocol, model, runs), cells in zip(matrix.trained, matrix.cells, strict=True):
        values = ("" if cell is None else _cell(cell) for cell in cells)
        rows.append((f"{trained} ({protocol}), {model}: {runs}", *values))
    return rows


def _cell(line: Line) -> str:
    marks = sorted({mark for run in line.runs for mark in run.marks})
    return f"{line.accuracy:.2%}" + (f" ({', '.join(marks)})" if marks else "")


def markdown(lines: Sequence[Line], matrix: Matrix | None) -> str:
    """Both tables as Markdown that is readable as it is."""
    parts = ["# Table 1, the paper's figures beside ours\n"]
    parts.append(_markdown_table([_HEADER, *rows_of(lines)], _NUMBERS))
    parts.append(_NOTE + "\n")
    if matrix:
        parts.append("## Accuracy on other data sets\n")
        rows = matrix_rows(matrix)
        parts.append(_markdown_table(rows, frozenset(range(1, len(rows[0])))))
    return "\n".join(parts)


def _markdown_table(rows: Sequence[Sequence[str]], numbers: frozenset[int]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(cells[0]))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width - 1) + (":" if column in numbers else "-")
        for column, width in enumerate(widths)
    ]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])]) + "\n"


def as_csv(lines: Sequence[Line]) -> str:
    """A line per network and protocol, with plain numbers for programs."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([
        "dataset", "paper_network", "paper_accuracy", "network", "config", "protocol", "split",
        "folds", "seeds", "pictures", "accuracy", "accuracy_deviation", "accuracy_low",
        "accuracy_high", "balanced_accuracy", "marks", "runs",
    ])  # fmt: skip
    table.writerows(_csv_rows(lines))
    return text.getvalue()


def _csv_rows(lines: Sequence[Line]) -> Iterator[list[object]]:
    for line in lines:
        paper = [line.published.model, line.published.accuracy] if line.published else ["", ""]
        if not line.runs:
            assert line.published is not None
            yield [line.published.dataset, *paper, *[""] * 14]
            continue
        first = line.runs[0]
        single = line.deviation is None
        yield [
            first.dataset, *paper, first.model, first.config, first.protocol, first.split,
            line.folds, line.seeds, first.count, line.accuracy,
            "" if single else line.deviation, *(first.interval if single else ("", "")),
            line.balanced_accuracy, "; ".join(first.marks), "; ".join(r.run for r in line.runs),
        ]  # fmt: skip


def as_html(lines: Sequence[Line], matrix: Matrix | None) -> str:
    """Both tables as one page that needs nothing else."""
    body = ["<h1>Table 1, the paper's figures beside ours</h1>"]
    body.append(_html_table([_HEADER, *rows_of(lines)], _NUMBERS, marks=len(_HEADER) - 1))
    body.append(f"<p>{html.escape(_NOTE)}</p>")
    if matrix:
        rows = matrix_rows(matrix)
        body.append("<h2>Accuracy on other data sets</h2>")
        body.append(_html_table(rows, frozenset(range(1, len(rows[0])))))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>Table 1</title><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def _html_table(
    rows: Sequence[Sequence[str]], numbers: frozenset[int], marks: int | None = None
) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        kinds = dict.fromkeys(numbers, "number") | {marks: "marks"}
        return "".join(
            f'<{tag} class="{kinds.get(column, "")}">{html.escape(cell)}</{tag}>'
            for column, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells(rows[0], 'th')}</tr></thead>"
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows[1:])
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'
