"""How training would scale on paper: `python docs/scaling.py` prints what scaling.md includes.

From scaling.json, whose networks `python -m wengert.parallel.check --json FILE` has measured.
"""

import json
import math
from pathlib import Path
from typing import Any

import drawing

from wengert.parallel.check import Fit

FIGURES = Path(__file__).with_name("scaling.json")
RANKS = [2**i for i in range(11)]
TABLE = (2, 8, 32, 128, 512, 1024)
BACKWARD = 2 / 3  # of a step: two of a layer's three products
LINKS = (1, 10, 100)  # Gb/s


def of(network: dict[str, Any], times: str) -> Fit:
    """Seconds a message, of the least one; seconds a byte, of the largest one."""
    n, measured = network["ranks"], {int(size): t for size, t in network[times].items()}
    alpha = measured[min(measured)] / (2 * (n - 1))
    most = max(measured)
    beta = (measured[most] - measured[min(measured)]) / (2 * (n - 1) / n * most)
    return Fit(alpha, beta)


def efficiency(network: Fit, ranks: int, step: float, size: int, hidden: bool) -> float:
    """The share of a step that is computation, on so many ranks that have a batch each."""
    waits = network.allreduce(ranks, size)
    if hidden:
        waits = max(0.0, waits - BACKWARD * step)
    return step / (step + waits)


def text() -> str:
    """What the page includes: the figures measured, and what follows."""
    data = json.loads(FIGURES.read_text())
    about, measured = data["about"], data["networks"]
    out = [
        f"## What was measured\n\n{about['processor']}, {about['date']}, {about['versions']}, two "
        f"ranks of one thread, each on a core of its own: `{about['command']}`.\n",
        "| network | sum by | alpha, us | beta, GB/s | 1 KB, us | 4 MB, ms | 64 MB, ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, network in measured.items():
        for times, by in (("mpi", "MPI's allreduce"), ("tree", "the fixed tree")):
            found, t = of(network, times), network[times]
            out.append(
                f"| {name} | {by} | {1e6 * found.alpha:.1f} | {1e-9 / found.beta:.2f} "
                f"| {1e6 * t['1024']:.1f} | {1e3 * t['4194304']:.1f} | {1e3 * t['67108864']:.0f} |"
            )
    tcp = measured["TCP between two network namespaces"]
    step, size = tcp["step"], tcp["bytes"]
    found = of(tcp, "tree")
    networks = {"measured TCP": found}
    networks |= {f"{g} Gb/s": Fit(found.alpha, 8e-9 / g) for g in LINKS}
    out += [
        "",
        f"A step of {'-'.join(map(str, tcp['layers']))} with a batch of {tcp['batch']} takes "
        f"{1e3 * step:.0f} ms on a rank, and has {size:,} bytes of gradient.",
        "",
        "## What follows\n",
        "Efficiency where each rank has a batch of its own: the share of a step that is "
        "computation. First with nothing hidden, then with communication hidden behind the "
        "backward pass as far as that lasts.\n",
        "| ranks | " + " | ".join(networks) + " |",
        "| --- |" + " --- |" * len(networks),
    ]
    for ranks in TABLE:
        cells = [
            " / ".join(f"{efficiency(net, ranks, step, size, h):.0%}" for h in (False, True))
            for net in networks.values()
        ]
        out.append(f"| {ranks:,} | {' | '.join(cells)} |")
    curves = [
        (name, [efficiency(net, ranks, step, size, True) for ranks in RANKS])
        for name, net in networks.items()
    ]
    x = [math.log10(ranks) for ranks in RANKS]
    chart = drawing.plot(
        x, curves, "ranks; efficiency with communication hidden", share=0, powers=True
    )
    return "\n".join([*out, "", "```{raw} html", chart, "```", ""])


def write(folder: Path) -> None:
    """generated/parts/scaling.md"""
    from op_pages import put

    (folder / "parts").mkdir(parents=True, exist_ok=True)
    put(folder / "parts" / "scaling.md", text())


if __name__ == "__main__":
    print(text())
