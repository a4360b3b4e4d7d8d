"""JAX on a GPU: peers/jax.py with the precision of its products said."""

from __future__ import annotations

import jax
from workloads import Task, Workload

from peers import jax as plain

VERSION = plain.VERSION
STEPS = plain.STEPS
set_threads = plain.set_threads


def about() -> dict[str, str]:
    return {"devices": ", ".join(map(str, jax.devices()))}


def step(work: Workload, variant: str, precision: str) -> Task:
    jax.config.update(
        "jax_default_matmul_precision", "bfloat16" if precision == "bf16" else "highest"
    )
    return plain.step(work, variant)
