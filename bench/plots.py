"""Small plots against time, as SVG: one panel for each figure, from zero up."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

WIDTH, PANEL, GAP, LEFT, TOP = 760, 74, 18, 110, 44
STYLE = (
    "<style>svg{background:#fff}text{font:12px sans-serif;fill:#222}.small{font-size:10px;fill:#555}"
    ".curve{fill:none;stroke:#1668a8;stroke-width:1.5}.frame{fill:none;stroke:#999}"
    ".warm{stroke:#b35c00;stroke-dasharray:4 3}</style>"
)


class Panel(NamedTuple):
    """One curve."""

    name: str
    values: list[float]


def write_svg(path: Path, caption: str, seconds: list[float], panels: list[Panel], warm_at: float) -> None:
    """``warm_at``: where the warm-up ends, marked by a line."""
    height = TOP + len(panels) * (PANEL + GAP) + 24
    span = max(seconds[-1], 1.0)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - 16) * at / span

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(caption)}</title>",
        STYLE,
        f'<text x="12" y="22">{escape(caption)}</text>',
    ]
    for number, panel in enumerate(panels):
        top = TOP + number * (PANEL + GAP)
        most = max(*panel.values, 1.0) * 1.1
        points = " ".join(
            f"{x(at):.1f},{top + PANEL * (1 - value / most):.1f}"
            for at, value in zip(seconds, panel.values, strict=True)
        )
        parts += [
            f'<rect class="frame" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 16}" height="{PANEL}"/>',
            f'<text x="12" y="{top + PANEL / 2}">{escape(panel.name)}</text>',
            f'<text class="small" x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{most:.0f}</text>',
            f'<text class="small" x="{LEFT - 6}" y="{top + PANEL}" text-anchor="end">0</text>',
            f'<polyline class="curve" points="{points}"/>',
        ]
    bottom = TOP + len(panels) * (PANEL + GAP) - GAP
    mark = f"{x(warm_at):.1f}"
    parts.append(f'<line class="warm" x1="{mark}" x2="{mark}" y1="{TOP}" y2="{bottom}"/>')
    for quarter in range(5):
        at, anchor = span * quarter / 4, "end" if quarter == 4 else "middle"
        place = f'x="{x(at):.0f}" y="{bottom + 14}" text-anchor="{anchor}"'
        parts.append(f'<text class="small" {place}>{at / 60:.1f} min</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))
