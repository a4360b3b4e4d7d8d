"""What Wengert sets out to reach, and whether a row reaches it.

A must is a ratio to the best of some peers ("3x faster than JAX scan"), or a limit in the row's
unit. A ratio says how many times better: for times and bytes, the peer's through ours; for rates,
ours through the peer's. An aim is what would be better still.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

LIBRARIES = "(openblas|torch|jax|numpy).*"


@dataclass(frozen=True)
class Must:
    """For rows of `section` whose name matches, and, unless `threads` is 0, with that many threads.

    `title` says which work that is; rows with the same title are summed up by their worst.
    `ours` and `against` are patterns: the best contender that matches counts, on either side.
    """

    title: str
    section: str
    name: str
    threads: int
    ours: str
    against: str
    must: float | None
    aim: float | None = None
    limit: bool = False


SQUARES = r"(128|256|512|1024|2048)x\1x\1 \w\w "
PRODUCTS = r"(512|1024|2048)x\1x\1 "
SMALL = r"((16|32|64)x\2x\2|100x10x5) \w\w float32"
TEN_MILLION = "sigmoid forward, 10,000,000"
COMPILED = r"wengert (compiled|run\(n\))"
MANY = r"wengert run\(n\)"

MUSTS = (
    Must("W1 through run(n)", "steps", "W1", 2, MANY, "jax scan", 3, 5),
    Must("W1 through run(n)", "steps", "W1", 2, MANY, "torch eager", 80, 140),
    Must("W1, one call a step", "steps", "W1", 2, "wengert compiled", "jax jit", 5, 9),
    Must("W1 eager", "steps", "W1", 2, "wengert eager", "torch eager", 8, 15),
    Must("W2 through run(n)", "steps", "W2", 2, MANY, "jax scan", 1.3),
    Must("W2 through run(n)", "steps", "W2", 2, MANY, "torch eager", 3.8),
    Must("W3 compiled", "steps", "W3", 2, COMPILED, LIBRARIES, 1.4),
    Must("W3 compiled", "steps", "W3", 2, COMPILED, "torch eager", 2.1),
    Must("W4 compiled", "steps", "W4", 2, COMPILED, LIBRARIES, 1.1),
    Must("W4 compiled", "steps", "W4", 2, COMPILED, "torch eager", 1.8),
    Must("matmul, n from 128", "matmul", SQUARES + "float32", 0, "wengert", LIBRARIES, 1),
    Must("matmul, n from 128", "matmul", SQUARES + "float32", 0, "wengert", "FMA peak", None, 0.95),
    Must("products, fp32", "precision", PRODUCTS + "fp32", 2, "wengert fp32", LIBRARIES, 1.4, 2.0),
    Must("products, fast", "precision", PRODUCTS + "fast", 2, "wengert fast", LIBRARIES, 2.5, 3.5),
    Must("products, bf16", "precision", PRODUCTS + "bf16", 2, "wengert bf16", LIBRARIES, 1.0, 1.2),
    Must("W3 compiled, fp32", "precision", "W3 fp32", 2, "wengert fp32", LIBRARIES, 1.5, 1.8),
    Must("W3 compiled, fast", "precision", "W3 fast", 2, "wengert fast", LIBRARIES, 1.8, 2.4),
    Must("W4 compiled, fp32", "precision", "W4 fp32", 2, "wengert fp32", LIBRARIES, 1.4, 1.8),
    Must("W4 compiled, fast", "precision", "W4 fast", 2, "wengert fast", LIBRARIES, 2.0, 3.0),
    Must("matmul, n from 128, float64", "matmul", SQUARES + "float64", 0, "wengert", LIBRARIES, 1),
    Must(
        "matmul, n to 64 and 100x10x5, one in a call",
        "matmul",
        SMALL,
        0,
        "wengert",
        LIBRARIES,
        2,
        4,
    ),
    Must(
        "matmul, n to 64 and 100x10x5, a hundred in a call",
        "matmul",
        SMALL + ", 100 in a call",
        0,
        "wengert",
        LIBRARIES,
        2,
        4,
    ),
    Must("sigmoid of 1e7", "memory", TEN_MILLION, 2, "wengert.*", "copy", 0.95),
    Must(
        "sigmoid of 1e7", "memory", TEN_MILLION, 2, "wengert.*", "copy past the cache", None, 0.95
    ),
    Must("sigmoid of 1e7", "memory", TEN_MILLION, 2, "wengert.*", "torch.*", 2.5),
    Must(
        "sigmoid of 1e3 and 1e5",
        "memory",
        "sigmoid forward, (1,000|100,000)",
        2,
        "wengert.*",
        "torch.*",
        1.3,
        2,
    ),
    Must(
        "scalar op, no gradient",
        "chain",
        "scalar op, no gradient",
        0,
        "wengert",
        "",
        200,
        100,
        limit=True,
    ),
    Must(
        "scalar op, forward and backward",
        "chain",
        "scalar op, forward and backward",
        0,
        "wengert",
        "",
        1000,
        500,
        limit=True,
    ),
    Must(
        "import, beyond NumPy's",
        "start",
        "import, beyond NumPy's",
        0,
        "wengert",
        "",
        30,
        15,
        limit=True,
    ),
    # 0.8 and 0.6 of PyTorch's, as ratios
    Must(
        "peak memory of W4",
        "start",
        "peak memory, W4",
        0,
        "wengert compiled",
        "torch.*",
        1.25,
        1.667,
    ),
)

# Of gpu.py. Where nothing has run on a GPU they are not measured.
GPU_MUSTS = (
    Must("SIMT matmul 4096, 8192", "matmul", r"\d+ nn strict", 0, "wengert", "cublas", 1.05, 1.15),
    Must("fp32-accurate matmul 8192", "matmul", "8192 nn fp32", 0, "wengert", "cublas", 2.0, 2.5),
    Must("nearly-fp32 matmul", "matmul", r"\d+ nn fast", 0, "wengert", "cublas", 4, 5),
    Must("bf16 matmul 4096, 8192", "matmul", r"\d+ nn bf16", 0, "wengert", "cublas", 0.97, 1.05),
    Must("sigmoid 1e8", "memory", "sigmoid .*", 0, "wengert", "copy", 0.97, 1.0),
    Must("10-5-1, many steps a call", "steps", "small .*", 0, COMPILED, "torch eager", 300),
    Must("10-5-1, many steps a call", "steps", "small .*", 0, COMPILED, "torch graph", 20),
    Must("10-5-1, many steps a call", "steps", "small .*", 0, COMPILED, "jax scan", 10),
    Must("10-5-1, us a step", "steps", "small .*", 0, COMPILED, "", None, 0.5, limit=True),
    Must("784-512-512-10, Adam", "steps", "middle .*", 0, COMPILED, "torch eager", 10, 20),
    Must("784-512-512-10, Adam", "steps", "middle .*", 0, COMPILED, "torch graph", 2.5, 4),
    Must(
        "4x2048, bf16, batch 512",
        "steps",
        "large, batch 512 bf16",
        0,
        COMPILED,
        "torch reduce-overhead",
        1.4,
        1.6,
    ),
    Must(
        "4x2048, bf16, batch 4096",
        "steps",
        "large, batch 4096 bf16",
        0,
        COMPILED,
        "torch reduce-overhead",
        1.1,
        1.2,
    ),
    Must(
        "4x2048, fp32-accurate",
        "steps",
        "large, .* fp32",
        0,
        COMPILED,
        "torch reduce-overhead",
        2.0,
        2.4,
    ),
    Must(
        "width 64, 5 hidden, batch 2^14 to 2^18",
        "steps",
        "narrow.*",
        0,
        COMPILED,
        "(torch graph|tiny-cuda-nn)",
        1.0,
        1.5,
    ),
)


def higher_is_better(unit: str) -> bool:
    return unit.endswith("/s")


def best(row: dict[str, Any], pattern: str) -> str | None:
    """The label of the best contender that matches."""
    labels = [label for label in row["values"] if re.fullmatch(pattern, label)]
    if not labels:
        return None
    pick = max if higher_is_better(row["unit"]) else min
    return pick(labels, key=lambda label: row["values"][label]["median"])


def ratio(row: dict[str, Any], ours: str, peer: str) -> float:
    """How many times better the first is than the second."""
    a, b = row["values"][ours]["median"], row["values"][peer]["median"]
    return float(a / b if higher_is_better(row["unit"]) else b / a)


def judge(row: dict[str, Any], musts: tuple[Must, ...] = MUSTS) -> list[dict[str, Any]]:
    """The musts of a row: contender, peer, must, aim, what is, and whether that is enough.

    Where a contender was not measured, `is` and `reached` are None.
    """
    verdicts = []
    for m in musts:
        if m.section != row["section"] or not re.fullmatch(m.name, row["name"]):
            continue
        if m.threads not in (0, row["threads"]):
            continue
        ours = best(row, m.ours)
        peer = None if m.limit else best(row, m.against)
        found: float | None = None
        reached: bool | None = None
        if ours and (peer or m.limit):
            found = row["values"][ours]["median"] if m.limit else ratio(row, ours, peer or "")
            enough = m.must if m.must is not None else m.aim
            assert enough is not None
            reached = found <= enough if m.limit else found >= enough
        verdicts.append(
            {
                "title": m.title,
                "contender": ours or m.ours.replace("\\", ""),
                "against": None if m.limit else peer or m.against,
                "must": m.must,
                "aim": m.aim,
                "is": None if found is None else float(f"{found:.4g}"),
                "reached": reached,
            }
        )
    return verdicts
