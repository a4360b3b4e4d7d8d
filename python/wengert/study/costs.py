"""What each line costs: FLOPs, bytes, saved bytes, time; and sums for each layer."""

from __future__ import annotations

from typing import TypeVar

from .list import Line, WengertList
from .run import Run
from .text import call, columns, head

_List = TypeVar("_List", bound=WengertList)


def measure(p: _List, repeats: int = 5) -> _List:
    """Sets every line's `seconds`: the shortest of `repeats` replays. Returns the list."""
    best = [float("inf")] * len(p.lines)
    run = Run(p)
    for _ in range(max(1, repeats)):
        best = [min(a, b) for a, b in zip(best, run.replica.run_all(), strict=True)]
    for line, seconds in zip(p.lines, best, strict=True):
        line.seconds = seconds
    p.timed = True
    return p


def per_layer(p: WengertList) -> dict[str, dict[str, float]]:
    """Sums for each layer ("" is what belongs to none): forward and backward FLOPs, bytes,
    seconds, saved bytes; measured first where that has not been done.
    """
    ensure_times(p)
    sums: dict[str, dict[str, float]] = {}
    for line in p.lines:
        layer = "(optimizer)" if line.phase == "update" else line.layer
        row = sums.setdefault(
            layer,
            {f"{phase} {w}": 0.0 for phase in ("forward", "backward", "update")
             for w in ("flops", "bytes", "seconds")} | {"saved bytes": 0.0},
        )  # fmt: skip
        row[f"{line.phase} flops"] += line.flops
        row[f"{line.phase} bytes"] += line.bytes
        row[f"{line.phase} seconds"] += line.seconds
        row["saved bytes"] += sum(p.values[v].bytes for v in line.saved if not p.values[v].outside)
    return sums


def ensure_times(p: WengertList) -> None:
    """Measures, where that can be and has not been done."""
    if not p.timed and p.core is not None:
        measure(p)


def unexplained(p: WengertList) -> list[tuple[Line, float]]:
    """Lines whose time is more than three times what their FLOPs and bytes explain, and the
    ratio, worst first. The yardstick is this list: its best FLOP/s and byte/s and the median
    time of its smallest lines, as the cost of starting an op.
    """
    ensure_times(p)
    timed = [x for x in p.lines if x.seconds > 0]
    if not timed:
        return []
    start = sorted(x.seconds for x in sorted(timed, key=lambda x: x.bytes)[: len(timed) // 4 + 1])
    overhead = start[len(start) // 2]
    rate = max((x.flops / x.seconds for x in timed), default=1.0) or 1.0
    bandwidth = max((x.bytes / x.seconds for x in timed), default=1.0) or 1.0
    total = sum(x.seconds for x in timed)
    found = []
    for x in timed:
        explained = overhead + max(x.flops / rate, x.bytes / bandwidth)
        if x.seconds > 3 * explained and x.seconds > 0.01 * total:
            found.append((x, x.seconds / explained))
    return sorted(found, key=lambda p: -p[1])


def costs(p: WengertList) -> str:
    """FLOPs, bytes, intensity, saved bytes and until when, and time of each line; then sums."""
    ensure_times(p)
    rows = [("   #", "value", "op", "FLOP", "bytes", "FLOP/B", "saved", "until", "µs")]
    for x in p.lines:
        made = p.values[x.output].name if x.output is not None else ""
        saved = sum(p.values[v].bytes for v in x.saved if not p.values[v].outside)
        rows.append(
            (f"{x.number:4}", made, x.op, f"{x.flops:,.0f}", f"{x.bytes:,.0f}",
             f"{x.intensity:.2f}", f"{saved:,}" if x.saved else "",
             str(x.kept_until) if x.kept_until else "", f"{x.seconds * 1e6:.1f}")
        )  # fmt: skip
    text = [*head(p), *columns(rows, left=3), "", "sums per layer"]
    layers = [("layer", "forward FLOP", "backward FLOP", "bytes", "saved", "forward µs",
               "backward µs", "update µs")]  # fmt: skip
    total = [0.0] * 7
    for layer, s in per_layer(p).items():
        row = [s["forward flops"], s["backward flops"],
               s["forward bytes"] + s["backward bytes"] + s["update bytes"], s["saved bytes"],
               s["forward seconds"] * 1e6, s["backward seconds"] * 1e6,
               s["update seconds"] * 1e6]  # fmt: skip
        total = [a + b for a, b in zip(total, row, strict=True)]
        layers.append((layer or "(none)", *(f"{n:,.0f}" for n in row)))  # type: ignore[arg-type]
    layers.append(("in all", *(f"{n:,.0f}" for n in total)))  # type: ignore[arg-type]
    text += columns(layers, left=1)
    for x, ratio in unexplained(p)[:5]:
        text.append(
            f"line {x.number}, {call(p, x)}: {x.seconds * 1e6:.0f} µs, {ratio:.1f} times "
            "what its FLOPs and bytes explain"
        )
    return "\n".join(text)
