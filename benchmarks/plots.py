"""Bar charts as SVG, by hand: one per workload and variant, medians with the range of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.report import COLUMNS, heading, number
from benchmarks.results import Measured, Results

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 760, 230, 110, 20, 10, 48
OURS, THEIRS, LIMIT, INK = "#2f6f4f", "#9aa5b1", "#d9c58b", "#222222"


def draw(results: Results, folder: Path) -> list[Path]:
    """Write all charts into a folder."""
    written = []
    for workload, variant, lines in results.variants():
        shown = [line for line in lines if line.headlines]
        if not shown:
            continue
        label = "".join(letter if letter.isalnum() else "-" for letter in f"{workload}-{variant}")
        path = folder / f"{label.strip('-')}.svg"
        path.write_text(
            chart(heading(workload, variant), shown, {s: str(d["title"]) for s, d in results.systems.items()})
        )
        written.append(path)
    return written


def chart(title: str, lines: Sequence[Measured], titles: dict[str, str]) -> str:
    """One chart."""
    figure = lines[0].headline
    most = max(max(line.headlines) for line in lines) or 1.0
    height = TOP + len(lines) * (BAR + GAP) + GAP
    runs = max(len(line.runs) for line in lines)
    about = f"{escape(COLUMNS.get(figure, figure))}; median, and the range of {runs} runs"
    size = f'width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect {size} fill="#ffffff"/>',
        f'<text x="12" y="20" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="12" y="38" fill="#666666">{about}</text>',
    ]
    for index, line in enumerate(lines):
        parts += _bar(line, titles.get(line.system, line.system), TOP + index * (BAR + GAP), most)
    return "\n".join([*parts, "</svg>", ""])


def _bar(line: Measured, title: str, top: int, most: float) -> list[str]:
    scale = (WIDTH - LEFT - RIGHT) / most
    middle, value = top + BAR / 2, line.median[line.headline]
    low, high = (LEFT + max(0.0, edge) * scale for edge in (min(line.headlines), max(line.headlines)))
    colour = {"rowlock": OURS, "limit": LIMIT, "bare": LIMIT}.get(line.system, THEIRS)
    return [
        f'<text x="{LEFT - 8}" y="{middle + 5:.0f}" text-anchor="end">{escape(title)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{max(0.0, value) * scale:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="{INK}"/>',
        f'<text x="{max(high, LEFT + max(0.0, value) * scale) + 6:.1f}" y="{middle + 5:.0f}">{number(value)}</text>',
    ]
