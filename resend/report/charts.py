"""Charts as inline SVG: one file, no script, readable on a phone, on paper and by a screen reader.

By hand, because a chart library would bring a browser's worth of code into a report that must open for years, offline.
The drawing is narrow, so that its text stays legible where it is scaled to a phone's width. Pure: numbers and labels
in, markup out; every text is escaped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from html import escape

_WIDTH = 480  # units; page.css shows it at most 1.3 times as wide in pixels
_ROW, _BAR = 36, 9
_LABEL = 48  # columns of a label, before it would meet its number
_LEFT, _COLUMN_HEIGHT = 46, 120


def bars(rows: Sequence[tuple[str, int]], *, title: str) -> str:
    """Horizontal bars, one a row; above each its label and its value."""
    top = max((value for _, value in rows), default=0) or 1
    parts = [_head(title, len(rows) * _ROW)]
    for number, (label, value) in enumerate(rows):
        y = number * _ROW
        length = max(1.0, _WIDTH * value / top) if value else 0.0
        parts.append(
            f'<text class="label" x="0" y="{y + 15}">{escape(_short(label))}</text>'
            f'<text class="value" x="{_WIDTH}" y="{y + 15}" text-anchor="end">{value:,}</text>'
            f'<rect x="0" y="{y + 20}" width="{length:.1f}" height="{_BAR}" rx="2"/>'
        )
    return "".join(parts) + "</svg>"


def columns(rows: Sequence[tuple[str, int]], *, title: str) -> str:
    """Columns over time: the first, the last and every few labels below."""
    top = max((value for _, value in rows), default=0) or 1
    step = (_WIDTH - _LEFT) / max(1, len(rows))
    parts = [_head(title, _COLUMN_HEIGHT + 36)]
    parts.append(f'<text class="value" x="{_LEFT - 6}" y="16" text-anchor="end">{top:,}</text>')
    every = max(1, -(-len(rows) // 4))
    for number, (label, value) in enumerate(rows):
        height = _COLUMN_HEIGHT * value / top
        x = _LEFT + number * step
        parts.append(
            f'<rect x="{x:.1f}" y="{6 + _COLUMN_HEIGHT - height:.1f}" width="{max(1.0, step - 1.2):.1f}"'
            f' height="{height:.1f}"><title>{escape(label)}: {value:,}</title></rect>'
        )
        if number % every == 0:
            parts.append(f'<text class="label" x="{x:.1f}" y="{_COLUMN_HEIGHT + 26}">{escape(label)}</text>')
    parts.append(f'<line x1="{_LEFT}" y1="{_COLUMN_HEIGHT + 6}" x2="{_WIDTH}" y2="{_COLUMN_HEIGHT + 6}"/>')
    return "".join(parts) + "</svg>"


def _head(title: str, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}"'
        ' preserveAspectRatio="xMinYMin meet"><title>' + escape(title) + "</title>"
    )


def _short(label: str) -> str:
    """A label cut where it would meet its number; East Asian letters are two columns wide."""
    used = 0
    for place, char in enumerate(label):
        used += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if used > _LABEL:
            return label[: place - 1] + "…"
    return label
