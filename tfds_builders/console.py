"""Progress on the terminal while a data set is prepared.

A bar on a terminal, a line every tenth of the way elsewhere; always on stderr, so
that stdout carries the closing summary only. It does not print results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich import console as rich_console
from rich import progress as rich_progress

_Item = TypeVar("_Item")
_PLAIN_LINES = 10  # a log file wants few lines


def track(items: Iterable[_Item], total: int, label: str) -> Iterator[_Item]:
    """Yields `items` while showing how many of `total` are done, and the rate."""
    if sys.stderr.isatty():
        yield from _track_bar(items, total, label)
    else:
        yield from _track_plain(items, total, label)


def say(line: str) -> None:
    """One line of news on stderr."""
    print(line, file=sys.stderr, flush=True)


def _track_bar(items: Iterable[_Item], total: int, label: str) -> Iterator[_Item]:
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    stderr = rich_console.Console(stderr=True)
    with rich_progress.Progress(*columns, console=stderr) as bar:
        yield from bar.track(items, total=total, description=label)


def _track_plain(items: Iterable[_Item], total: int, label: str) -> Iterator[_Item]:
    started = time.monotonic()
    step = max(1, -(-total // _PLAIN_LINES))
    for done, item in enumerate(items, start=1):
        yield item
        if done % step == 0 or done == total:
            rate = done / max(time.monotonic() - started, 1e-9)
            left = (total - done) / rate
            say(f"{label}: {done:,} of {total:,}, {rate:.0f} images/s, {left:.0f} s left")
