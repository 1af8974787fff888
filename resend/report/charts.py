"""Charts as inline SVG: one file, no script, readable on paper and by a screen reader.

By hand, because a chart library would bring a browser's worth of code into a report that must open for years, offline.
Pure: numbers and labels in, markup out; every text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH = 720
_BAR, _GAP, _LABEL, _NUMBER = 22, 8, 190, 90
_COLUMN_HEIGHT = 160


def bars(rows: Sequence[tuple[str, int]], *, title: str) -> str:
    """Horizontal bars, one a row, the value beside each."""
    top = max((value for _, value in rows), default=0) or 1
    height = len(rows) * (_BAR + _GAP) + _GAP
    room = _WIDTH - _LABEL - _NUMBER
    parts = [_head(title, height)]
    for number, (label, value) in enumerate(rows):
        y = _GAP + number * (_BAR + _GAP)
        length = max(1.0, room * value / top) if value else 0.0
        parts.append(
            f'<text class="label" x="{_LABEL - 8}" y="{y + 16}" text-anchor="end">{escape(_short(label))}</text>'
            f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="3"/>'
            f'<text class="value" x="{_LABEL + length + 6:.1f}" y="{y + 16}">{value:,}</text>'
        )
    return "".join(parts) + "</svg>"


def columns(rows: Sequence[tuple[str, int]], *, title: str) -> str:
    """Columns over time: the first, the last and every few labels below."""
    top = max((value for _, value in rows), default=0) or 1
    step = (_WIDTH - 60) / max(1, len(rows))
    parts = [_head(title, _COLUMN_HEIGHT + 46)]
    parts.append(f'<text class="value" x="4" y="16">{top:,}</text>')
    every = max(1, -(-len(rows) // 6))
    for number, (label, value) in enumerate(rows):
        height = _COLUMN_HEIGHT * value / top
        x = 50 + number * step
        parts.append(
            f'<rect x="{x:.1f}" y="{10 + _COLUMN_HEIGHT - height:.1f}" width="{max(1.0, step - 1.5):.1f}"'
            f' height="{height:.1f}"><title>{escape(label)}: {value:,}</title></rect>'
        )
        if number % every == 0:
            parts.append(f'<text class="label" x="{x:.1f}" y="{_COLUMN_HEIGHT + 30}">{escape(label)}</text>')
    parts.append(f'<line x1="50" y1="{_COLUMN_HEIGHT + 10}" x2="{_WIDTH - 10}" y2="{_COLUMN_HEIGHT + 10}"/>')
    return "".join(parts) + "</svg>"


def _head(title: str, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}"'
        ' preserveAspectRatio="xMinYMin meet"><title>' + escape(title) + "</title>"
    )


def _short(label: str, most: int = 26) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"
