"""Formats the comparison of runs as Markdown, CSV and HTML, for `fer-jax summary`."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterator, Sequence

from fer_jax.experiments import comparison
from fer_jax.experiments.comparison import CrossMatrix, TableRow

_HEADER = (
    "data set", "paper: network", "accuracy", "ours: network", "run", "protocol",
    "folds x seeds", "images", "accuracy", "balanced", "warnings",
)  # fmt: skip
_NUMBERS = frozenset({2, 6, 7, 8, 9})  # right-aligned columns
_NOTE = (
    "Results are comparable only if the protocols agree; the paper's random splits have the same "
    "subjects in training and test. Brackets: 95 % interval, over people where they are known; ±: "
    "standard deviation over seeds. Balanced: mean recall of the classes with images in the split. "
    "The paper's splits: "
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


def table_cells(rows: Sequence[TableRow]) -> list[tuple[str, ...]]:
    """Returns the cells of Table 1, in the order of `_HEADER`."""
    return [_cells(row) for row in rows]


def _cells(row: TableRow) -> tuple[str, ...]:
    published = row.published
    name = published.title if published else row.runs[0].dataset
    paper = (published.network, f"{published.accuracy:.2%}") if published else ("", "")
    if not row.runs:
        return (name, *paper, "not run", *[""] * 7)
    first = row.runs[0]
    protocol = first.protocol if first.split == "test" else f"{first.protocol}, {first.split}"
    return (
        name,
        *paper,
        first.model,
        comparison.summarize_names(run.run for run in row.runs),
        protocol,
        f"{row.folds} x {row.seeds}",
        f"{first.count:,}",
        _accuracy(row),
        f"{row.balanced_accuracy:.2%}",
        ", ".join(first.marks),
    )


def _accuracy(row: TableRow) -> str:
    if row.deviation is not None:
        return f"{row.accuracy:.2%} ± {100 * row.deviation:.2f}"
    if row.runs[0].interval is None:
        return f"{row.accuracy:.2%} (no interval)"
    low, high = row.runs[0].interval
    return f"{row.accuracy:.2%} [{100 * low:.1f}, {100 * high:.1f}]"


def _note(rows: Sequence[TableRow]) -> str:
    """Returns the text below Table 1, which says why a run has no interval."""
    missing = [row.runs[0] for row in rows if len(row.runs) == 1 and row.runs[0].interval is None]
    reasons = "; ".join(f"{run.run}: {run.interval_method}" for run in missing)
    return _NOTE + (f" No interval: {reasons}." if reasons else "")


def matrix_rows(matrix: CrossMatrix) -> list[tuple[str, ...]]:
    """Returns the cells of the cross-data-set matrix, header first."""
    rows: list[tuple[str, ...]] = [("trained on", *matrix.evaluated)]
    for (trained, protocol, model, runs), cells in zip(matrix.trained, matrix.cells, strict=True):
        values = ("" if cell is None else _cell(cell) for cell in cells)
        rows.append((f"{trained} ({protocol}), {model}: {runs}", *values))
    return rows


def _cell(row: TableRow) -> str:
    marks = sorted({mark for run in row.runs for mark in run.marks})
    return f"{row.accuracy:.2%}" + (f" ({', '.join(marks)})" if marks else "")


def markdown(rows: Sequence[TableRow], matrix: CrossMatrix | None) -> str:
    """Formats both tables as aligned Markdown."""
    parts = ["# Table 1: the paper's results and ours\n"]
    parts.append(_markdown_table([_HEADER, *table_cells(rows)], _NUMBERS))
    parts.append(_note(rows) + "\n")
    if matrix:
        parts.append("## Accuracy on other data sets\n")
        cells = matrix_rows(matrix)
        parts.append(_markdown_table(cells, frozenset(range(1, len(cells[0])))))
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


def as_csv(rows: Sequence[TableRow]) -> str:
    """Formats Table 1 as CSV with unrounded numbers."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([
        "dataset", "paper_network", "paper_accuracy", "network", "config", "protocol", "split",
        "folds", "seeds", "pictures", "accuracy", "accuracy_deviation", "accuracy_low",
        "accuracy_high", "balanced_accuracy", "marks", "runs",
    ])  # fmt: skip
    table.writerows(_csv_rows(rows))
    return text.getvalue()


def _csv_rows(rows: Sequence[TableRow]) -> Iterator[list[object]]:
    for row in rows:
        paper = [row.published.model, row.published.accuracy] if row.published else ["", ""]
        if not row.runs:
            assert row.published is not None
            yield [row.published.dataset, *paper, *[""] * 14]
            continue
        first = row.runs[0]
        single = row.deviation is None
        yield [
            first.dataset, *paper, first.model, first.config, first.protocol, first.split,
            row.folds, row.seeds, first.count, row.accuracy,
            "" if single else row.deviation, *((single and first.interval) or ("", "")),
            row.balanced_accuracy, "; ".join(first.marks), "; ".join(r.run for r in row.runs),
        ]  # fmt: skip


def as_html(rows: Sequence[TableRow], matrix: CrossMatrix | None) -> str:
    """Formats both tables as one self-contained HTML page."""
    body = ["<h1>Table 1: the paper's results and ours</h1>"]
    body.append(_html_table([_HEADER, *table_cells(rows)], _NUMBERS, marks=len(_HEADER) - 1))
    body.append(f"<p>{html.escape(_note(rows))}</p>")
    if matrix:
        cells = matrix_rows(matrix)
        body.append("<h2>Accuracy on other data sets</h2>")
        body.append(_html_table(cells, frozenset(range(1, len(cells[0])))))
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
