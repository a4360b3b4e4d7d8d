"""mypy (strict) and pyright read the examples, and what users write, without a complaint."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

USE = """
import numpy as np
import wengert as wg
from typing import assert_type
from wengert import data, nn, optim

model = nn.Linear(2, 1)
optimizer = optim.Adam(model.parameters())

@wg.compile
def step(x: wg.Tensor, *, scale: float = 1.0) -> tuple[wg.Tensor, int]:
    loss = model(x * scale).sum()
    loss.backward()
    optimizer.step()
    return loss, 1

@wg.compile(max_traces=3)
def double(x: wg.Tensor) -> wg.Tensor:
    return x * 2

assert_type(step(wg.ones(2), scale=2.0), tuple[wg.Tensor, int])
assert_type(double(wg.ones(2)), wg.Tensor)
assert_type(wg.ones(2).grad, wg.Tensor | None)
grad = model.weight.grad
if grad is not None:
    print(grad.abs().max().item())
model.weight.grad = None
data.Batches(np.zeros((4, 1, 8, 8)), np.zeros(4), 2, augment=[data.RandomCrop(8, padding=1)])
"""
WRONG = """
step(1.0)
step(wg.ones(2), size=3)
double()
wg.ones(2).grad.sum()
"""


def check(command: list[str], tmp_path: Path, *files: Path) -> str:
    environment = {**os.environ, "MYPYPATH": str(ROOT / "python")}
    done = subprocess.run(
        [sys.executable, "-m", *command, *files],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("tool", "good"),
    [
        (
            ["mypy", "--strict", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache'}"],
            "no issues found",
        ),
        (["pyright", f"--pythonpath={sys.executable}"], "0 errors"),
    ],
    ids=["mypy", "pyright"],
)
def test_types_of_the_examples_and_of_compiled_functions(
    tool: list[str], good: str, tmp_path: Path
) -> None:
    if not (ROOT / "examples").is_dir() or find_spec(tool[0]) is None:
        pytest.skip(f"needs the source tree and {tool[0]}")
    use, wrong = tmp_path / "use.py", tmp_path / "wrong.py"
    use.write_text(USE)
    wrong.write_text(USE + WRONG)
    assert good in check(tool, tmp_path, use, *sorted((ROOT / "examples").glob("*.py")))
    said = check(tool, tmp_path, wrong)
    first = USE.count("\n") + 2
    for line in range(first, first + 4):
        assert f"wrong.py:{line}:" in said, said
