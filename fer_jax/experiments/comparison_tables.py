"""Formats the ranking and the comparison of runs as Markdown, CSV, HTML and LaTeX."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Iterator, Sequence

from fer_jax.experiments import comparison
from fer_jax.experiments.comparison import CrossMatrix, TableRow
from fer_jax.experiments.paired import REPLICATES
from fer_jax.experiments.ranking import MAX_ROWS, Rank, Ranking
from fer_jax.printable import csv_table
from fer_jax.report.intervals import Interval

_PAPER_HEADER = (
    "data set", "paper: network", "accuracy", "ours: network", "run", "protocol",
    "folds x seeds", "images", "accuracy", "balanced", "warnings",
)  # fmt: skip
_PAPER_NUMBERS = frozenset({2, 6, 7, 8, 9})  # right-aligned columns
_PAPER_NOTE = (
    "Results are comparable only if the protocols agree; the paper's random splits have the same "
    "subjects in training and test. Brackets: 95 % interval, over people where they are known; ±: "
    "standard deviation over seeds. Balanced: mean recall of the classes with images in the split. "
    "The paper's splits: "
    + "; ".join(f"{one.title} {one.protocol}" for one in comparison.TABLE_1)
    + "."
)
_HEADER = (
    "network", "settings", "run", "protocol", "folds x seeds", "images", "accuracy", "balanced",
    "macro F1", "parameters", "warnings",
)  # fmt: skip
_NUMBERS = frozenset({4, 5, 6, 7, 8, 9})
_NOTE = (
    "Brackets: 95 % interval of the mean accuracy, over people where they are known; ±: standard "
    "deviation over seeds. Balanced (mean recall) and macro F1 are over the classes with images "
    "in the split."
)
_PAIR_HEADER = ("better", "than", "difference", "95 % interval", "p", "p (Holm)", "McNemar")
_PAIR_NUMBERS = frozenset({2, 3, 4, 5, 6})
_PAIR_NOTE = (
    "Accuracy on the same images, in percentage points. Interval and p: bootstrap of "
    f"{REPLICATES:,} samples of people (images, where people are unknown), widened for few people; "
    "Holm's method adjusts p for the number of pairs. McNemar: exact test of two single runs, "
    "which takes images as independent."
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


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
      title: heading.
      rows: cells of all rows, header first.
      numbers: right-aligned columns.
      note: text below the table.
      marks: column of the warnings; None without one.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int]
    note: str = ""
    marks: int | None = None


def paper_table(rows: Sequence[TableRow]) -> Table:
    """Returns the paper's Table 1 beside the runs."""
    cells = (_PAPER_HEADER, *(_paper_cells(row) for row in rows))
    return Table(
        "Table 1: the paper's results and ours", cells, _PAPER_NUMBERS, _paper_note(rows),
        marks=len(_PAPER_HEADER) - 1,
    )  # fmt: skip


def _paper_cells(row: TableRow) -> tuple[str, ...]:
    published = row.published
    name = published.title if published else row.runs[0].dataset
    paper = (published.network, f"{published.accuracy:.2%}") if published else ("", "")
    if not row.runs:
        return (name, *paper, "not run", *[""] * 7)
    first = row.runs[0]
    return (
        name,
        *paper,
        first.model,
        comparison.summarize_names(run.run for run in row.runs),
        _protocol(row),
        f"{row.folds} x {row.seeds}",
        f"{first.count:,}",
        _paper_accuracy(row),
        f"{row.balanced_accuracy:.2%}",
        ", ".join(row.marks),
    )


def _protocol(row: TableRow) -> str:
    first = row.runs[0]
    return first.protocol if first.split == "test" else f"{first.protocol}, {first.split}"


def _paper_accuracy(row: TableRow) -> str:
    if row.deviation is not None:
        return f"{row.accuracy:.2%} ± {100 * row.deviation:.2f}"
    if row.runs[0].interval is None:
        return f"{row.accuracy:.2%} (no interval)"
    low, high = row.runs[0].interval
    return f"{row.accuracy:.2%} [{100 * low:.1f}, {100 * high:.1f}]"


def _paper_note(rows: Sequence[TableRow]) -> str:
    return _PAPER_NOTE + _missing_intervals(
        row for row in rows if len(row.runs) == 1 and row.runs[0].interval is None
    )


def _missing_intervals(rows: Iterable[TableRow]) -> str:
    """Says why runs have no interval; "" if all have one."""
    reasons = "; ".join(f"{row.runs[0].run}: {row.runs[0].interval_method}" for row in rows)
    return f" No interval: {reasons}." if reasons else ""


def ranking_tables(ranking: Ranking) -> list[Table]:
    """Returns the ranking of a test split, and the table of its pairs if there are any."""
    first = ranking.ranks[0].row.runs[0]
    title = " / ".join(part for part in (first.dataset, first.config, _protocol_of(first)) if part)
    missing = (
        one.row for one in ranking.ranks
        if one.interval is None and one.row.runs[0].interval is None
    )  # fmt: skip
    cells = (_HEADER, *(_rank_cells(one) for one in ranking.ranks))
    note = _NOTE + _missing_intervals(missing)
    tables = [Table(title, cells, _NUMBERS, note, marks=len(_HEADER) - 1)]
    if ranking.pairs:
        more = len(ranking.ranks) - MAX_ROWS
        note = _PAIR_NOTE + (f" Without the last {more} rows." if more > 0 else "")
        pairs = (_PAIR_HEADER, *_pair_cells(ranking))
        tables.append(Table(f"{title}: pairs", pairs, _PAIR_NUMBERS, note))
    return tables


def _protocol_of(run: comparison.RunReport) -> str:
    return f"{run.protocol}, {run.split}"


def _rank_cells(one: Rank) -> tuple[str, ...]:
    row, first = one.row, one.row.runs[0]
    macro = "" if row.macro_f1 is None else f"{row.macro_f1:.2%}"
    return (
        first.model,
        one.settings,
        comparison.summarize_names(run.run for run in row.runs),
        _protocol(row),
        f"{row.folds} x {row.seeds}",
        f"{first.count:,}",
        _ranked_accuracy(row, one.interval),
        f"{row.balanced_accuracy:.2%}",
        macro,
        f"{first.parameters:,}" if first.parameters else "",
        ", ".join(row.marks),
    )


def _ranked_accuracy(row: TableRow, interval: Interval | None) -> str:
    text = f"{row.accuracy:.2%}"
    if row.deviation is not None:
        text += f" ± {100 * row.deviation:.2f}"
    if interval is None:
        return f"{text} (no interval)"
    return f"{text} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _pair_cells(ranking: Ranking) -> Iterator[tuple[str, ...]]:
    for pair in ranking.pairs:
        first, second = ranking.ranks[pair.first], ranking.ranks[pair.second]
        low, high = (pair.interval.low, pair.interval.high) if pair.interval else (None, None)
        yield (
            _label(first),
            _label(second),
            f"{100 * pair.difference:+.2f}",
            "" if low is None or high is None else f"[{100 * low:+.2f}, {100 * high:+.2f}]",
            _p_value(pair.p_value),
            _p_value(pair.adjusted),
            _p_value(pair.mcnemar),
        )


def _label(one: Rank) -> str:
    """Network and settings; the run too if it is a single one."""
    run = f" ({one.row.runs[0].run})" if len(one.row.runs) == 1 else ""
    return one.name + run


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def matrix_table(matrix: CrossMatrix) -> Table:
    """Returns the cross-data-set matrix."""
    rows: list[tuple[str, ...]] = [("trained on", *matrix.evaluated)]
    for (trained, protocol, model, runs), cells in zip(matrix.trained, matrix.cells, strict=True):
        values = ("" if cell is None else _cell(cell) for cell in cells)
        rows.append((f"{trained} ({protocol}), {model}: {runs}", *values))
    columns = frozenset(range(1, len(rows[0])))
    return Table("Accuracy on other data sets", tuple(rows), columns)


def _cell(row: TableRow) -> str:
    return f"{row.accuracy:.2%}" + (f" ({', '.join(sorted(row.marks))})" if row.marks else "")


def markdown(tables: Iterable[Table]) -> str:
    """Formats tables as aligned Markdown."""
    parts = []
    for table in tables:
        parts += [f"## {table.title}\n", _markdown_table(table)]
        parts += [f"{table.note}\n"] * bool(table.note)
    return "\n".join(parts)


def _markdown_table(table: Table) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in table.rows]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(cells[0]))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if column in table.numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width - 1) + (":" if column in table.numbers else "-")
        for column, width in enumerate(widths)
    ]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])]) + "\n"


def as_latex(tables: Iterable[Table]) -> str:
    """Formats tables for a paper; they need the package booktabs."""
    return "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    # The run's directory is no news to readers of a paper.
    shown = [n for n, name in enumerate(table.rows[0]) if name not in ("run", "warnings")]
    shown = [n for n in shown if n == 0 or any(row[n] for row in table.rows[1:])]
    columns = "".join("r" if n in table.numbers else "l" for n in shown)
    lines = [" & ".join(_latex(row[n]) for n in shown) + r" \\" for row in table.rows]
    note = " ".join([table.note, *_latex_warnings(table)])
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.title)}. {_latex(note)}}}",
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:],
        r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def _latex_warnings(table: Table) -> Iterator[str]:
    """Yields the warnings that all rows have, then those of some, after the rows' first cells."""
    if table.marks is None:
        return
    marks = [(row[:2], set(filter(None, row[table.marks].split(", ")))) for row in table.rows[1:]]
    everywhere = set.intersection(*(found for _, found in marks))
    if everywhere:
        yield f"Warnings: {', '.join(sorted(everywhere))}."
    for name, found in marks:
        if more := found - everywhere:
            yield f"{' '.join(filter(None, name))}: {', '.join(sorted(more))}."


_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def as_csv(rows: Sequence[TableRow]) -> str:
    """Formats Table 1 as CSV with unrounded numbers."""
    names = [
        "dataset", "paper_network", "paper_accuracy", "network", "config", "protocol", "split",
        "folds", "seeds", "pictures", "accuracy", "accuracy_deviation", "accuracy_low",
        "accuracy_high", "balanced_accuracy", "marks", "runs",
    ]  # fmt: skip
    return csv_table([names, *_csv_rows(rows)])


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
            row.balanced_accuracy, "; ".join(row.marks), "; ".join(r.run for r in row.runs),
        ]  # fmt: skip


def ranking_csv(rankings: Sequence[Ranking]) -> str:
    """Formats the rankings as CSV with unrounded numbers."""
    table: list[list[object]] = [[
        "dataset", "config", "protocol", "split", "rank", "network", "settings", "parameters",
        "folds", "seeds", "images", "accuracy", "accuracy_deviation", "accuracy_low",
        "accuracy_high", "balanced_accuracy", "macro_f1", "marks", "runs",
    ]]  # fmt: skip
    for ranking in rankings:
        for number, one in enumerate(ranking.ranks, 1):
            row, first, ends = one.row, one.row.runs[0], one.interval
            table.append([
                first.dataset, first.config, first.protocol, first.split, number, first.model,
                one.settings, first.parameters or "", row.folds, row.seeds, first.count,
                row.accuracy, row.deviation,
                *((ends.low, ends.high) if ends else ("", "")), row.balanced_accuracy,
                row.macro_f1, "; ".join(row.marks), "; ".join(run.run for run in row.runs),
            ])  # fmt: skip
    return csv_table(table)


def pairs_csv(rankings: Sequence[Ranking]) -> str:
    """Formats the paired comparisons as CSV with unrounded numbers."""
    table: list[list[object]] = [[
        "dataset", "config", "protocol", "split", "better", "than", "difference", "low", "high",
        "p", "p_holm", "p_mcnemar",
    ]]  # fmt: skip
    for ranking in rankings:
        one = ranking.ranks[0].row.runs[0]
        for pair in ranking.pairs:
            ends = (pair.interval.low, pair.interval.high) if pair.interval else ("", "")
            table.append([
                one.dataset, one.config, one.protocol, one.split,
                *(_label(ranking.ranks[row]) for row in (pair.first, pair.second)),
                pair.difference, *ends, pair.p_value, pair.adjusted, pair.mcnemar,
            ])  # fmt: skip
    return csv_table(table)


def as_html(tables: Sequence[Table]) -> str:
    """Formats tables as one self-contained HTML page."""
    body = []
    for table in tables:
        body += [f"<h2>{html.escape(table.title)}</h2>", _html_table(table)]
        body += [f"<p>{html.escape(table.note)}</p>"] * bool(table.note)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>Summary of runs</title><style>{_STYLE}</style>'
        f"</head><body><h1>Summary of runs</h1>{''.join(body)}</body></html>\n"
    )


def _html_table(table: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        kinds = dict.fromkeys(table.numbers, "number") | {table.marks: "marks"}
        return "".join(
            f'<{tag} class="{kinds.get(column, "")}">{html.escape(cell)}</{tag}>'
            for column, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells(table.rows[0], 'th')}</tr></thead>"
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows[1:])
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'
