"""Which processor this is, which of its logical processors are cores of their own, and its name in
those of files."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def physical_cores() -> list[int]:
    """One usable logical processor of each core, then the siblings."""
    usable = sorted(os.sched_getaffinity(0))
    seen: set[str] = set()
    first, rest = [], []
    for cpu in usable:
        file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = file.read_text() if file.exists() else str(cpu)
        (rest if core in seen else first).append(cpu)
        seen.add(core)
    return first + rest


def processor() -> str:
    """The name in /proc/cpuinfo; where it says little, the model's numbers too."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    except OSError:
        pass
    name = fields.get("model name") or platform.processor() or platform.machine()
    name = " ".join(name.replace("(R)", "").replace("(TM)", "").split())
    if not any(c.isdigit() for c in name) and "model" in fields:  # a virtual machine hides it
        name += f" family {fields.get('cpu family')} model {fields['model']}"
    return name


def slug(name: str) -> str:
    """A name for files of what was measured there: amd-epyc-family-23-model-1."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
