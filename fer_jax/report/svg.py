"""Matplotlib figures as inline SVG in the colors and the font of the page.

Matplotlib's colors become CSS variables (for light and dark mode), its background becomes
transparent, its ids become unique on the page, and text stays text.
"""

from __future__ import annotations

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

COLORS = {
    "#0072b2": "var(--blue)",
    "#e69f00": "var(--orange)",
    "#b9c4cc": "var(--pale)",
    "#1a1a1a": "var(--ink)",
    "#6b6b6b": "var(--faint)",
    "#e4e4e4": "var(--line)",
    "#000000": "var(--ink)",  # Matplotlib's default for ticks, frames and text
}
"""CSS variable of the page for each color in `plots`."""

_SVG_TAG = re.compile(r"<svg[^>]*viewBox=\"([^\"]+)\"[^>]*>")


def encode(figure: Figure, name: str, description: str) -> str:
    """Encodes a figure as an `<svg>` element without background.

    Args:
      figure: the figure.
      name: prefix of the ids, unique on the page.
      description: text for screen readers.
    """
    out = io.StringIO()
    # Text rather than outlines: selectable, a tenth of the size, in the font of the page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    box = _SVG_TAG.search(text)
    assert box is not None, "expected a viewBox in Matplotlib's SVG"
    body = text[box.end() :]
    for color, variable in COLORS.items():
        body = re.sub(f"{color}\\b", variable, body, flags=re.IGNORECASE)
    body = _prefix_ids(body, name)
    # Removes Matplotlib's font, so that text is in the font of the page.
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;?", "", body)
    return (
        f'<svg role="img" aria-label="{description}" viewBox="{box[1]}" '
        f'class="figure" xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    )


def _prefix_ids(body: str, name: str) -> str:
    """Prefixes the ids that are referred to, and removes the others."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))

    def prefix(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r'\sid="([^"]+)"', prefix, body)
    return re.sub(r'(href="#|url\(#)([^")]+)', rf"\1{name}-\2", body)
