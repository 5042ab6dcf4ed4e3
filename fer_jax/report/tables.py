"""The report as plain ASCII text, for terminals and files.

The per-class table has the form of scikit-learn's `classification_report`, which the paper uses.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fer_jax.report.card import ReportCard
from fer_jax.report.head_scores import HeadScores
from fer_jax.report.intervals import CONFIDENCE_LEVEL, Interval
from fer_jax.report.scores import CALIBRATION_BINS, Scores

_WIDTH = 78
_RECALL_HEADER = "   recall"
_HEADERS = ("precision", "recall", "f1-score", "support")


def report_text(scores: Scores, card: ReportCard, digits: int = 2) -> str:
    """Formats the whole report: warnings, summary, per-class table and confusion matrix."""
    parts = [
        banner(card, scores),
        summary(scores, card),
        classification_report(scores, digits),
        "Confusion matrix (rows true, columns predicted)\n\n" + confusion_text(scores),
        head_text(scores.heads) if scores.heads else "",
    ]
    return "\n".join(part for part in parts if part)


def banner(card: ReportCard, scores: Scores) -> str:
    """Formats the warnings in a frame of '#'; "" without warnings."""
    warnings = (*card.warnings, *scores.warnings)
    if not warnings:
        return ""
    lines = [
        f"#  {line:<{_WIDTH - 6}}  #"
        for warning in warnings
        for line in textwrap.wrap(warning, _WIDTH - 6, subsequent_indent="    ")
    ]
    edge = "#" * _WIDTH
    return "\n".join([edge, *lines, edge]) + "\n"


def summary(scores: Scores, card: ReportCard) -> str:
    """Formats what was evaluated and the overall scores."""
    classes = f"{scores.occurring} of {len(scores.label_names)} classes"
    majority = scores.support.max() / scores.count
    average, trained = "moving average at " * card.averaged, duration(card.train_seconds)
    checkpoint = f"{average}step {card.step:,}, trained for {trained}"
    rows = [
        ("run", run_text(card)),
        ("data set", " / ".join(part for part in (card.dataset, card.config) if part)),
        ("protocol", card.protocol),
        ("split", f"{card.split}, n = {scores.count}"),
        (
            "across splits",
            f"{card.leaks:,} shared ids, {card.near_duplicates:,} near-duplicate pairs",
        ),
        *([("learned from", card.overlap.text)] if card.overlap else []),
        ("model", f"{card.model}, {card.parameters:,} parameters"),
        ("initial weights", card.weights),
        *training_rows(card),
        *([("checkpoint", checkpoint)] if card.has_checkpoint else []),
        *([("test-time aug.", card.views)] if card.views else []),
        ("accuracy", _with_interval(scores.accuracy, scores.accuracy_interval)),
        (
            "balanced (UAR)",
            _with_interval(scores.balanced_accuracy, scores.balanced_accuracy_interval),
        ),
        ("macro F1", _with_interval(scores.macro.f1, scores.macro_f1_interval)),
        ("ECE", f"{scores.calibration_error:.4f} ({CALIBRATION_BINS} equal-width bins)"),
        *calibration_rows(scores, card),
        *abstention_rows(scores, card),
        *vote_rows(scores),
        ("baselines", f"chance {scores.chance:.4f}, most frequent class {majority:.4f}"),
        ("means", f"UAR, macro F1, chance: over {classes} with images"),
        ("intervals", scores.interval_note),
        *(("note", note) for note in card.notes),
    ]
    return "".join(_summary_row(name, value) for name, value in rows)


def head_text(heads: HeadScores) -> str:
    """Formats the scores of action units, and of valence and arousal."""
    names = [one.name for one in heads.units] + [one.name for one in heads.dimensions]
    width = max(map(len, ("mean", *names)))
    lines = []
    if heads.units:
        assert heads.macro_f1 is not None
        lines += ['Action units (always: F1 of answering "shown" for every image)', ""]
        lines += [f"{'':<{width}}  precision  recall  F1 and interval           always   shown"]
        lines += [
            f"{one.name:<{width}}  {one.precision:9.2f}  {one.recall:6.2f}  "
            f"{_with_interval(one.f1, one.interval):<24}  {one.always:6.2f}  {one.shown:6}"
            for one in heads.units
        ]
        macro = _with_interval(heads.macro_f1, heads.macro_f1_interval)
        lines += [f"{'mean':<{width}}  {'':9}  {'':6}  {macro:<24}  {heads.macro_always:6.2f}", ""]
    if heads.dimensions:
        assert heads.ccc is not None
        lines += ["Valence and arousal (CCC: concordance correlation coefficient)", ""]
        lines += [f"{'':<{width}}  {'CCC and interval':<27}    RMSE  images"]
        lines += [
            f"{one.name:<{width}}  {_with_interval(one.ccc, one.interval):<27}  {one.rmse:6.3f}  "
            f"{one.count:6}"
            for one in heads.dimensions
        ]
        lines += [f"{'mean':<{width}}  {_with_interval(heads.ccc, heads.ccc_interval)}", ""]
    return "\n".join([*lines, f"intervals: {heads.method}", ""])


def accuracy_line(scores: Scores) -> str:
    """Returns the accuracy with its interval, or why there is none, as one line."""
    interval = scores.accuracy_interval
    if interval is None:
        return f"accuracy {scores.accuracy:.4f} ({scores.interval_note})"
    level = f"{CONFIDENCE_LEVEL:.0%} interval"
    return f"accuracy {scores.accuracy:.4f}, {level} {interval.low:.4f} to {interval.high:.4f}"


def calibration_rows(scores: Scores, card: ReportCard) -> list[tuple[str, str]]:
    """Returns the temperature, and the ECE without it, as a table; empty without one."""
    if scores.uncalibrated_error is None:
        return []
    before = f"ECE without it {scores.uncalibrated_error:.4f}"
    return [("temperature", f"{card.temperature:.4g}, fitted on validation; {before}")]


def abstention_rows(scores: Scores, card: ReportCard) -> list[tuple[str, str]]:
    """Returns coverage and accuracy with --abstain as a table; empty without it."""
    one = scores.abstention
    if one is None:
        return []
    rest = "no image" if one.accuracy is None else _with_interval(
        one.accuracy, one.accuracy_interval
    )  # fmt: skip
    calibrated = "calibrated" if card.temperature != 1 else "not calibrated"
    if card.members > 1 or card.folds or card.seeds > 1:
        calibrated = "each run's calibration"
    return [
        ("abstains", f"below a top probability of {one.threshold:g} ({calibrated})"),
        ("coverage", f"{one.coverage:.4f}, {one.answered:,} of {scores.count:,} images"),
        ("their accuracy", rest),
    ]


def training_rows(card: ReportCard) -> list[tuple[str, str]]:
    """Returns the optimizer and the versions as a table; empty in reports of older versions."""
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    return [row for row in (("training", card.training), ("versions", versions)) if row[1]]


def vote_rows(scores: Scores) -> list[tuple[str, str]]:
    """Returns the comparison with the votes of people as a table; empty if they are unknown."""
    if scores.votes is None:
        return []
    votes = scores.votes
    agreement = f"{votes.agreement:.4f} of the votes are for the predicted class"
    return [
        ("agreement", f"{agreement}, at most {votes.ceiling:.4f}"),
        ("KL divergence", f"{votes.divergence:.4f} nats, of the probabilities from the votes"),
    ]


def run_text(card: ReportCard) -> str:
    """Returns the run's name with its seed, or with its folds and seeds."""
    if not card.has_checkpoint:
        return card.run
    if not card.folds and card.seeds == 1:
        return f"{card.run} (seed {card.seed})"
    seeds = f"{card.seeds} seed{'s' if card.seeds > 1 else ''}, first seed {card.seed}"
    return f"{card.run} ({card.folds} folds, {seeds})" if card.folds else f"{card.run} ({seeds})"


def classification_report(scores: Scores, digits: int = 2) -> str:
    """Formats precision, recall, F1 and support of each class, and the averages.

    Identical to `sklearn.metrics.classification_report(..., zero_division=0)` with all classes as
    `labels`, except that "macro avg" is over the classes with images only, and that scikit-learn
    1.9 prints a support of 3 as "3.0" if no prediction is correct.
    """
    names, count = scores.label_names, scores.count
    width = max(*map(len, names), len("weighted avg"), digits)
    lines = [" " * width + " " + "".join(f" {header:>9}" for header in _HEADERS), ""]

    def line(name: str, cells: Sequence[float | str], support: int) -> str:
        texts = (cell if isinstance(cell, str) else f"{cell:.{digits}f}" for cell in cells)
        return f"{name:>{width}} " + "".join(f" {text:>9}" for text in texts) + f" {support:>9}"

    per_class = zip(names, scores.precision, scores.recall, scores.f1, scores.support, strict=True)
    lines += [line(name, values, support) for name, *values, support in per_class]
    lines += ["", line("accuracy", ("", "", scores.accuracy), count)]
    for name, average in (("macro avg", scores.macro), ("weighted avg", scores.weighted)):
        lines.append(line(name, (average.precision, average.recall, average.f1), count))
    return "\n".join(lines) + "\n"


def confusion_text(scores: Scores) -> str:
    """Formats the confusion matrix as counts, with the recall of each true class."""
    names = scores.label_names
    width = max(map(len, names))
    count_width = len(str(scores.confusion.max()))
    room = (_WIDTH - width - len(_RECALL_HEADER)) // len(names) - 1
    cell = 1 + max(count_width, 4, min(room, max(map(len, names))))
    head = "".join(f"{_shorten(name, cell - 1):>{cell}}" for name in names)
    lines = [" " * width + head + _RECALL_HEADER]
    for name, row, recall in zip(names, scores.confusion, scores.recall, strict=True):
        counts = "".join(f"{count:>{cell}}" for count in row)
        lines.append(f"{name:>{width}}{counts}{recall:>{len(_RECALL_HEADER)}.1%}")
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Formats seconds as "42 s", "3 min 07 s" or "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _with_interval(value: float, interval: Interval | None) -> str:
    between = f"[{interval.low:.4f}, {interval.high:.4f}]" if interval else "(no interval)"
    return f"{value:.4f} {between}"


def _summary_row(name: str, value: str) -> str:
    indent = " " * 16
    text = f"{name:<16}{value}"
    lines = textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _shorten(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "."
