"""Names what a copy contains besides the images and tables that its builder uses.

So that no split, table or format of a copy is left out without a word.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping

from tfds_builders import sources

_TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".json", ".parquet")
_IMAGES = (*sources.IMAGE_SUFFIXES, ".gif", ".avif", ".heic", ".heif", ".jfif", ".jp2")
_LISTED = 4  # folders or files of a kind in the summary


def count(source: sources.Source, used: Collection[str]) -> dict[str, dict[str, int]]:
    """Counts the unused images, tables and archives of a copy.

    Args:
      source: the copy.
      used: names of the files that became records, were dropped with a reason, or were read.

    Returns:
      "images", "tables" and "archives", if there are any, to the number by folder; tables and
      archives by name.
    """
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name in source.sizes():
        lower = name.lower()
        if name in used or sources.is_hidden(name):
            continue
        if lower.endswith(_IMAGES):
            counts["images"]["/".join(name.split("/")[:-1][:2]) or "."] += 1
        elif lower.endswith(_TABLES):
            counts["tables"][name] += 1
        elif sources.is_archive(name) and not _is_unpacked(source, name):
            counts["archives"][name] += 1
    return {kind: dict(of_kind.most_common()) for kind, of_kind in counts.items()}


def _is_unpacked(source: sources.Source, archive: str) -> bool:
    """Whether the folder that an archive appears as has files."""
    folder = f"{sources.without_suffix(archive)}/"
    return any(name.startswith(folder) for name in source.sizes())


def describe(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The line of the summary; empty if everything is used."""
    parts = []
    for kind, of_kind in counts.items():
        total = sum(of_kind.values())
        places = [
            f"{place}: {number:,}" if kind == "images" else place
            for place, number in list(of_kind.items())[:_LISTED]
        ]
        more = " ..." if len(of_kind) > _LISTED else ""
        parts.append(f"{total:,} {kind if total > 1 else kind[:-1]} ({', '.join(places)}{more})")
    return [f"not used: {'; '.join(parts)}"] if parts else []
