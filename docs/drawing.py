"""Plots and bars as SVG, in the text's colour, so that they suit light and dark."""

import math
from collections.abc import Sequence
from html import escape

COLOURS = ("#2a7ab8", "#d9822b", "#3a9a5b", "#9a5bb0", "#8a8a8a", "#b8433a", "#c2a63a")
Curve = tuple[str, Sequence[float]]


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" style="max-width:100%;height:auto" font-family="sans-serif" '
        f'font-size="12" fill="currentColor" role="img">{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    """What to show: all but the outermost hundredth where that is far away, as at a pole."""
    values = sorted(v for _, ys in curves for v in ys if math.isfinite(v))
    if not values:
        return -1.0, 1.0
    edge = len(values) // 25
    low, high = values[edge], values[-1 - edge]
    spread = (high - low) or 1.0
    low, high = max(values[0], low - spread / 2), min(values[-1], high + spread / 2)
    margin = 0.06 * (high - low or 2.0)
    return low - margin, high + margin


def plot(x: Sequence[float], curves: Sequence[Curve], xlabel: str) -> str:
    """Curves over x with their names; gaps where a value is not finite or far outside."""
    width, height, left, bottom, top = 560.0, 260.0, 52.0, 34.0, 24.0
    (low, high), first, last = _range(curves), x[0], x[-1]

    def at(a: float, b: float) -> tuple[float, float]:
        across = (a - first) / (last - first) * (width - left - 12)
        return left + across, top + (high - b) / (high - low) * (height - top - bottom)

    body = []
    for value in (low, (low + high) / 2, high):
        _, y = at(first, value)
        body.append(f'<path d="M{left} {y:.1f}H{width - 12}" stroke="currentColor" opacity=".2"/>')
        body.append(_text(left - 6, y + 4, f"{value:.3g}", "end", 'opacity=".8"'))
    for value in (first, (first + last) / 2, last):
        body.append(_text(at(value, low)[0], height - 16, f"{value:.3g}", "middle"))
    body.append(_text(width / 2, height - 2, xlabel, "middle"))
    for k, (name, ys) in enumerate(curves):
        path, down = "", False
        for a, b in zip(x, ys, strict=True):
            seen = math.isfinite(b) and low <= b <= high
            if seen:
                px, py = at(a, b)
                path += f"{'L' if down else 'M'}{px:.1f} {py:.1f}"
            down = seen
        dash = ' stroke-dasharray="5 3"' if k else ""
        style = f'stroke="{COLOURS[k]}" stroke-width="2"{dash}'
        body.append(f'<path d="{path or "M0 0"}" fill="none" {style}/>')
        place = left + 6 + 230 * k
        body.append(f'<path d="M{place} 12h22" {style}/>{_text(place + 28, 16, name)}')
    return _svg(width, height, body)


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
        _text(0, 14, title + (", logarithmic" if logarithmic else ""), more='font-weight="bold"')
    ]
    for k, (name, value) in enumerate(rows):
        y = 26 + step * k
        colour = COLOURS[0] if name.startswith("wengert") else COLOURS[4]
        body.append(_text(left - 8, y + 13, name, "end"))
        body.append(
            f'<rect x="{left}" y="{y}" width="{length(value):.1f}" height="16" fill="{colour}"/>'
        )
        body.append(
            _text(
                left + length(value) + 6,
                y + 13,
                f"{value:{',.0f' if value >= 1000 else '.4g'}} {unit}",
            )
        )
    return _svg(width, 32 + step * len(rows), body)
