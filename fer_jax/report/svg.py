"""Figures as SVG inside a page, in the page's own colours, light or dark.

matplotlib draws; here its few colours become the page's CSS variables, its background
becomes transparent and its ids become unique on the page. Text stays text, in the font
of the page.
"""

from __future__ import annotations

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = {
    "#0072b2": "var(--blue)",
    "#e69f00": "var(--orange)",
    "#b9c4cc": "var(--pale)",
    "#1a1a1a": "var(--ink)",
    "#6b6b6b": "var(--faint)",
    "#e4e4e4": "var(--line)",
    "#000000": "var(--ink)",  # matplotlib's own for ticks, frames and text
}
"""matplotlib's colours in `plots`, and the page's for the same."""

_SVG_TAG = re.compile(r"<svg[^>]*viewBox=\"([^\"]+)\"[^>]*>")


def encode(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element.

    Args:
      figure: whose background is left out.
      name: unique on the page; ids are derived from it.
      description: what a screen reader says instead.
    """
    out = io.StringIO()
    # Text as text: selectable, a tenth of the size of outlines, and in the page's font.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    box = _SVG_TAG.search(text)
    assert box is not None, "matplotlib wrote no viewBox"
    body = text[box.end() :]
    for colour, variable in COLOURS.items():
        body = re.sub(f"{colour}\\b", variable, body, flags=re.IGNORECASE)
    body = _own_ids(body, name)
    # Every text names matplotlib's font; the page's reads better and is surely there.
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;?", "", body)
    return (
        f'<svg role="img" aria-label="{description}" viewBox="{box[1]}" '
        f'class="figure" xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    )


def _own_ids(body: str, name: str) -> str:
    """Keeps the ids that something refers to, and makes them this figure's own."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))

    def own(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r'\sid="([^"]+)"', own, body)
    return re.sub(r'(href="#|url\(#)([^")]+)', rf"\1{name}-\2", body)
