"""What notebooks show of tensors, modules, checks, steps and schedules: HTML, and curves as SVG.

Jupyter asks an object for `_repr_html_()`; nothing of IPython is needed. Text has the notebook's
own colour and shades are partly transparent, so that all of it suits light and dark. A tensor takes
a few kilobytes whatever its size: more than SMALL elements are a map of at most SIDE x SIDE of
them, and statistics are of at most LOOKED_AT elements, evenly spread.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from . import _core
from ._core import Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SMALL, ROW = 64, 10  # elements of a table, and of its rows
SIDE = 32
LOOKED_AT = 2**20
ROWS = 60  # of a table of lines or layers
LOW, HIGH, BAD, ENDLESS = (56, 120, 200), (214, 72, 56), (200, 0, 200), (230, 180, 0)
LEVELS = 62  # of a map's colours, from its least to its greatest; then infinity, then NaN


def statistics(array: Array, bins: int = 24) -> dict[str, Any]:
    """What can be said of an array in a few numbers: of its finite elements, but for `bad`.

    min, max, mean, std, absmax; zeros, nan and bad (NaN or infinite) are counts; histogram has
    `bins` counts between min and max.
    """
    import numpy as np

    x = np.asarray(array, np.float64).ravel()
    finite = x[np.isfinite(x)]
    found: dict[str, Any] = {"size": int(x.size), "bad": int(x.size - finite.size)}
    found |= {"zeros": int((finite == 0).sum()), "nan": int(np.isnan(x).sum())}
    if finite.size == 0:
        return found | {"min": None, "max": None, "mean": None, "std": None, "absmax": None}
    with np.errstate(all="ignore"):
        found |= {
            "min": float(finite.min()),
            "max": float(finite.max()),
            "mean": float(finite.mean()),
            "std": float(finite.std()),
            "absmax": float(np.abs(finite).max()),
        }
        if finite.size > 1 and found["max"] > found["min"]:
            # Halves, since the range of the largest numbers overflows.
            low, span = found["min"] / 2, found["max"] / 2 - found["min"] / 2
            place = ((finite / 2 - low) / span * bins).astype(int)
            counts = np.bincount(np.minimum(place, bins - 1), minlength=bins)
            found["histogram"] = counts.tolist()
    return found


# ---- blocks


def block(title: str, *parts: str) -> str:
    """A title, and parts that are HTML already, below one another."""
    style = "font:13px/1.5 system-ui,sans-serif"
    return f'<div style="{style}"><div><b>{escape(title)}</b></div>{"".join(parts)}</div>'


def said(text: str) -> str:
    """A sentence."""
    return f'<div style="opacity:.75">{escape(text)}</div>'


def pre(text: str) -> str:
    """Text as it is."""
    style = "font-size:12px;line-height:1.4;margin:0;white-space:pre-wrap"
    return f'<pre style="{style}">{escape(text)}</pre>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1, rest: str = ""
) -> str:
    """Rows of text under their heads, ROWS of them and a word on the `rest`; the first `left`
    columns begin at the left."""

    def cells(tag: str, row: Iterable[object]) -> str:
        sides = ("left" if i < left else "right" for i in range(len(head)))
        return "".join(
            f'<{tag} style="text-align:{side};padding:1px 8px;white-space:pre">'
            f"{escape(str(text))}</{tag}>"
            for side, text in zip(sides, row, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows[:ROWS])
    more = said(f"and {len(rows) - ROWS:,} more{rest}") if len(rows) > ROWS else ""
    style = "border-collapse:collapse;font:12px/1.4 ui-monospace,monospace;margin:2px 0"
    return (
        f'<table style="{style}">'
        f"<thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def png(pixels: Array, palette: Sequence[tuple[int, int, int, int]] = ()) -> str:
    """An image element: of numbers of a palette's colours (rows, columns), of grey levels, or of
    red, green and blue (rows, columns, 3); uint8."""
    import numpy as np

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows, columns = pixels.shape[:2]
    kind = 3 if palette else 2 if pixels.ndim == 3 else 0
    lines = np.ascontiguousarray(pixels).reshape(rows, -1)
    data = np.insert(lines, 0, 0, axis=1).tobytes()  # each line names its filter: none
    file = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, kind, 0, 0, 0)
    )
    if palette:
        file += chunk(b"PLTE", bytes(part for colour in palette for part in colour[:3]))
        file += chunk(b"tRNS", bytes(colour[3] for colour in palette))
    file += chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    scale = max(1, min(18, 480 // columns, 240 // rows))
    style = "display:block;image-rendering:pixelated;border:1px solid #8886;margin:3px 0"
    return (
        f'<img alt="{rows} x {columns} elements" width="{columns * scale}" height="{rows * scale}" '
        f'style="{style};max-width:none" '
        f'src="data:image/png;base64,{base64.b64encode(file).decode()}">'
    )


# ---- curves

COLOURS = ("#2a7ab8", "#d9822b", "#3a9a5b", "#9a5bb0", "#8a8a8a", "#b8433a", "#c2a63a")
Curve = tuple[str, Sequence[float]]


def svg(width: float, height: float, body: Sequence[str]) -> str:
    """A drawing in the text's colour."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" style="max-width:100%;height:auto" font-family="sans-serif" '
        f'font-size="12" fill="currentColor" role="img">{"".join(body)}</svg>'
    )


def svg_text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    """A word in a drawing."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _range(curves: Sequence[Curve], share: int) -> tuple[float, float]:
    """What to show: all but the outermost of `share` parts where that is far away, as at a pole."""
    values = sorted(v for _, ys in curves for v in ys if math.isfinite(v))
    if not values:
        return -1.0, 1.0
    edge = len(values) // share if share else 0
    low, high = values[edge], values[-1 - edge]
    spread = (high - low) or 1.0
    return max(values[0], low - spread / 2), min(values[-1], high + spread / 2)


def plot(
    x: Sequence[float],
    curves: Sequence[Curve],
    xlabel: str,
    *,
    share: int = 25,
    mark: float | None = None,
    powers: bool = False,
) -> str:
    """Curves over x with their names; gaps where a value is not finite or far outside.

    share   the outermost of so many parts of the values may be left out; 0: all is shown
    mark    where a line stands
    powers  x are powers of ten
    """
    width, height, left, bottom, top = 560.0, 260.0, 52.0, 34.0, 24.0
    least, most = _range(curves, share)
    margin = 0.06 * (most - least or abs(most) or 2.0)
    low, high, first, last = least - margin, most + margin, x[0], x[-1]

    def at(a: float, b: float) -> tuple[float, float]:
        across = (a - first) / ((last - first) or 1.0) * (width - left - 12)
        return left + across, top + (high - b) / (high - low) * (height - top - bottom)

    body = []
    for value in dict.fromkeys((least, (least + most) / 2, most)):
        _, y = at(first, value)
        body.append(f'<path d="M{left} {y:.1f}H{width - 12}" stroke="currentColor" opacity=".2"/>')
        body.append(svg_text(left - 6, y + 4, f"{value:.3g}", "end", 'opacity=".8"'))
    for value in dict.fromkeys((first, (first + last) / 2, last)):
        word = f"{10**value if powers else value:.3g}"
        body.append(svg_text(at(value, low)[0], height - 16, word, "middle"))
    body.append(svg_text(width / 2, height - 2, xlabel, "middle"))
    if mark is not None and first <= mark <= last:
        line = f'd="M{at(mark, low)[0]:.1f} {top}V{height - bottom}" stroke="currentColor"'
        body.append(f'<path {line} stroke-dasharray="2 3"/>')
    for k, (name, ys) in enumerate(curves):
        path, down = "", False
        for a, b in zip(x, ys, strict=True):
            seen = math.isfinite(b) and low <= b <= high
            if seen:
                px, py = at(a, b)
                path += f"{'L' if down else 'M'}{px:.1f} {py:.1f}"
            down = seen
        dash = ' stroke-dasharray="5 3"' if k else ""
        style = f'stroke="{COLOURS[k % len(COLOURS)]}" stroke-width="2"{dash}'
        body.append(f'<path d="{path or "M0 0"}" fill="none" {style}/>')
        place = left + 6 + min(230, (width - left) / len(curves)) * k
        body.append(f'<path d="M{place:g} 12h22" {style}/>{svg_text(place + 28, 16, name)}')
    return svg(width, height, body)


# ---- tensors


def tensor(x: Tensor) -> str:
    """Shape, dtype, device and history; the values as a table, a map or an image; statistics.

    No value is read while a step is traced; where values cannot be read, the error's text says why.
    """
    title = f"{type(x).__name__} {x.dtype.name} {tuple(x.shape)} on {x.device}"
    if x.requires_grad:
        title += ", requires_grad" if x.is_leaf else f", made_by {x.made_by}"
    if _core._is_tracing():
        return block(title, said("its values are not read while the step is traced"))
    if x.size == 0:
        return block(title, said("no elements"))
    try:
        array, sampled = _values(x)
    except Exception as error:
        return block(title, said(f"its values cannot be read: {str(error).splitlines()[0]}"))
    s = statistics(array)
    many = f" ({array.size:,} elements looked at, evenly spread)" if sampled else ""
    whole = said(_told(s, x.dtype == _core.bool_) + many)
    notes = ["a row for each index of all axes but the last"] * (array.ndim > 2)
    if x.size <= SMALL and array.shape[-1:] <= (ROW,):
        return block(title, _table(array, s), whole * (x.size > 1), *map(said, notes))
    if image := _image(array, s, x.dtype):
        return block(title, image, whole)
    cells = _even(_even(array.reshape(-1, array.shape[-1]), 0, SIDE), 1, SIDE)
    notes += [f"{cells.shape[0]} x {cells.shape[1]} elements shown, evenly spread"] * (
        cells.size < x.size
    )
    notes += ["blue is below 0, red above"] * ((s["min"] or 0) < 0)
    picture = png(_levels(cells, s), _palette(s))
    return block(title, picture, whole, said("; ".join(notes)) if notes else "")


def _values(x: Tensor) -> tuple[Array, bool]:
    """An array, and whether it has evenly spread elements of x instead of all. No view of a large
    tensor is copied as a whole: one element may be expanded to many."""
    shown, steps, size = x.detach(), [1] * x.ndim, list(x.shape)
    while math.prod(size) > LOOKED_AT:
        widest = size.index(max(size))
        steps[widest] *= 2
        size[widest] = -(-x.shape[widest] // steps[widest])
    sampled = max(steps, default=1) > 1
    if sampled:
        shown = shown[tuple(slice(None, None, step) for step in steps)]
    if x.dtype == _core.bfloat16:  # NumPy has none
        shown = shown.float()
    return shown.cpu().numpy(), sampled


def _told(s: dict[str, Any], is_bool: bool) -> str:
    """Statistics in words; NaN and infinities are named."""
    if is_bool:
        return f"{s['size'] - s['zeros']:,} of {s['size']:,} are True"
    words = [
        f"{name} {s[name]:.4g}"
        for name in ("min", "max", "mean", "std")
        if s[name] is not None and math.isfinite(s[name])  # the sum of the largest is not
    ]
    words = words or ["nothing finite"]
    for count, name in (
        (s["zeros"], "zero" if s["zeros"] == 1 else "zeros"),
        (s["nan"], "NaN"),
        (s["bad"] - s["nan"], "infinite"),
    ):
        words += [f"{count:,} {name}"] if count else []
    return ", ".join(words)


def _share(value: float, s: dict[str, Any]) -> float:
    """How strong its colour is, from 0 to 1: the root, so that small values are seen."""
    return math.sqrt(min(1.0, abs(value) / s["absmax"])) if s["absmax"] else 0.0


def _table(array: Array, s: dict[str, Any]) -> str:
    """Every element; a row for each index of all axes but the last."""

    def cell(value: Any) -> str:
        word = f"{value:.5g}" if isinstance(value, float) else str(value)
        number = float(value)
        colour, strength = HIGH if number > 0 else LOW, 0.0
        if not math.isfinite(number):
            colour, strength = BAD if number != number else ENDLESS, 0.5
            word = "NaN" if number != number else word
        else:
            strength = 0.45 * _share(number, s)
        shade = "#" + bytes((*colour, round(255 * strength))).hex()
        return f'<td style="background:{shade};padding:1px 7px">{word}</td>'

    rows = array.reshape(-1, array.shape[-1] if array.ndim else 1).tolist()
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return (
        '<table style="border-collapse:collapse;text-align:right;'
        f'font:12px/1.4 ui-monospace,monospace;margin:3px 0"><tbody>{body}</tbody></table>'
    )


def _even(array: Array, axis: int, most: int) -> Array:
    """At most so many elements of an axis, evenly spread, both ends among them."""
    import numpy as np

    n = array.shape[axis]
    if n <= most:
        return array
    places = np.linspace(0, n - 1, most).astype(int)
    chosen: Array = np.take(array, places, axis)
    return chosen


def _levels(array: Array, s: dict[str, Any]) -> Array:
    """Numbers of the palette's colours."""
    import numpy as np

    x = array.astype(np.float64)
    levels = np.full(x.shape, LEVELS + 1, np.uint8)
    levels[np.isinf(x)] = LEVELS
    finite = np.isfinite(x)
    if finite.any():
        # Halves, since the range of the largest numbers overflows.
        low, span = s["min"] / 2, (s["max"] / 2 - s["min"] / 2) or 1.0
        part = np.clip((x[finite] / 2 - low) / span, 0, 1)
        levels[finite] = np.rint(part * (LEVELS - 1)).astype(np.uint8)
    return levels


def _palette(s: dict[str, Any]) -> list[tuple[int, int, int, int]]:
    low, high = s["min"] or 0.0, s["max"] or 0.0
    colours = []
    for i in range(LEVELS):
        part = i / (LEVELS - 1)
        value = low * (1 - part) + high * part
        colours.append((*(HIGH if value > 0 else LOW), round(255 * _share(value, s))))
    return [*colours, (*ENDLESS, 255), (*BAD, 255)]


def _image(array: Array, s: dict[str, Any], dtype: Any) -> str:
    """Grey or coloured images, side by side, where the shape and the values are those of images:
    ([images,] channels, rows, columns) or ([images,] rows, columns, channels), bytes or 0 to 1."""
    import numpy as np

    is_bytes = dtype == _core.uint8
    unit = dtype.is_floating_point and not s["bad"] and s["min"] >= 0 and s["max"] <= 1
    if array.ndim not in (3, 4) or not (is_bytes or unit):
        return ""
    if array.shape[-3] in (1, 3) and min(array.shape[-2:]) >= 8:
        array = np.moveaxis(array, -3, -1)
    elif not (array.shape[-1] in (1, 3) and min(array.shape[-3:-1]) >= 8):
        return ""
    images = array if array.ndim == 4 else array[None]
    shown = _even(_even(images[:16], 1, SIDE), 2, SIDE)
    shown = shown[: max(1, 3 * SIDE * SIDE // shown[0].size)]  # bytes of all pixels
    pixels = shown if is_bytes else np.rint(shown * 255.0).astype(np.uint8)
    gap = np.full((len(pixels), pixels.shape[1], 1, pixels.shape[3]), 128, np.uint8)
    row = np.concatenate([*np.concatenate([pixels, gap], axis=2)], axis=1)[:, :-1]
    notes = [f"the first {len(shown)} of {len(images)}"] * (len(shown) < len(images))
    notes += ["a part of the pixels, evenly spread"] * (shown[0].size < images[0].size)
    picture = png(row[..., 0] if row.shape[-1] == 1 else row)
    return picture + (said("; ".join(notes)) if notes else "")
