"""Which font draws a text: class and file names come in any script.

Matplotlib's DejaVu Sans has Latin, Greek, Cyrillic and some more. For other scripts an installed
font is taken. Characters that no installed font has are drawn as escapes, and a note says so.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import NamedTuple


class Font(NamedTuple):
    """A font file and its family name."""

    path: str
    family: str


@functools.cache
def default() -> Font:
    """Returns DejaVu Sans, which Matplotlib contains."""
    import matplotlib as mpl  # half a second, which predictions without images do without

    return Font(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), "DejaVu Sans")


@functools.cache
def font_for(text: str) -> Font | None:
    """Returns a font that has every character of a text; None if none is installed."""
    if _has(default().path, text):
        return default()
    # Building its list of the installed fonts takes seconds the first time.
    from matplotlib import font_manager

    for entry in sorted(font_manager.fontManager.ttflist, key=lambda one: (one.name, one.fname)):
        is_regular = entry.style == "normal" and entry.weight in (400, "normal")
        # The last resort, which Matplotlib contains, has boxes.
        if is_regular and "Last Resort" not in entry.name and _has(entry.fname, text):
            return Font(entry.fname, entry.name)
    return None


def drawable(text: str) -> str:
    r"""Escapes the characters that no installed font has, as "\u5f00"."""
    if text.isascii() or font_for(text):
        return text
    missing = {one for one in text if not one.isspace() and font_for(one) is None}
    if not missing:  # of several scripts, each with a font of its own: only one is used
        missing = {one for one in text if not one.isspace() and font_for(one) != default()}
    _note_missing()
    return "".join(one.encode("unicode_escape").decode() if one in missing else one for one in text)


@functools.cache
def _note_missing() -> None:
    print(
        "note: no installed font has some characters of these names: images show them as escapes "
        r"such as \u5f00, and tables as they are; install a font that has them, such as Noto Sans",
        file=sys.stderr,
    )


def _has(path: str, text: str) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return all(font.get_char_index(ord(one)) for one in text if not one.isspace())
    except (OSError, RuntimeError):  # a font file that is gone or damaged
        return False
