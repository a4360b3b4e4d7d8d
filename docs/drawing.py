"""Bars as SVG, in the text's colour, as the curves that the package draws: for light and dark."""

import math
from collections.abc import Sequence

from wengert._shown import COLOURS, plot, svg, svg_text

__all__ = ["bars", "plot"]


def bars(title: str, rows: Sequence[tuple[str, float]], unit: str) -> str:
    """A bar for each row, the first in front; a logarithm where they differ a hundredfold."""
    width, left, step = 640.0, 170.0, 22.0
    values = [v for _, v in rows]
    logarithmic = max(values) > 100 * min(values)
    least = min(values) / 2

    def length(v: float) -> float:
        share = (
            math.log(v / least) / math.log(max(values) / least) if logarithmic else v / max(values)
        )
        return share * (width - left - 110)

    body = [
        svg_text(0, 14, title + (", logarithmic" if logarithmic else ""), more='font-weight="bold"')
    ]
    for k, (name, value) in enumerate(rows):
        y = 26 + step * k
        colour = COLOURS[0] if name.startswith("wengert") else COLOURS[4]
        body.append(svg_text(left - 8, y + 13, name, "end"))
        body.append(
            f'<rect x="{left}" y="{y}" width="{length(value):.1f}" height="16" fill="{colour}"/>'
        )
        body.append(
            svg_text(
                left + length(value) + 6,
                y + 13,
                f"{value:{',.0f' if value >= 1000 else '.4g'}} {unit}",
            )
        )
    return svg(width, 32 + step * len(rows), body)
