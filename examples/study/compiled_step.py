"""Walk 5: what a compiled step did to the list.

wengert.compile traces the same list that wengert.trace shows, and improves it: lines whose result
nobody reads are dropped, equal ones joined, chains of elementwise lines fused into one, and all
that the step makes gets a place in one arena. Here the list before stands beside the list after: a
value's name is the same in both, and a line that is gone says so, or names the line that now does
its work.

    python examples/study/compiled_step.py
"""

import numpy as np

import wengert
from wengert import nn, optim

wengert.manual_seed(0)
model = nn.MLP([10, 5, 1], activation="sigmoid")
optimizer = optim.SGD(model.parameters(), lr=0.1)
rng = np.random.default_rng(0)
x = wengert.tensor(rng.standard_normal((20, 10)).astype("f"))
y = wengert.tensor((rng.random((20, 1)) > 0.5).astype("f"))


@wengert.compile
def step(x: wengert.Tensor, y: wengert.Tensor) -> wengert.Tensor:
    """One training step."""
    optimizer.zero_grad()
    loss = wengert.binary_cross_entropy_with_logits(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


for _ in range(3):
    step(x, y)
after = step.program
assert after is not None and after.before is not None
before = after.before


def call(line: dict) -> str:
    """`v3 = add(v2, c5)`"""
    made = ", ".join(line["outputs"]) or "(update)"
    return f"{made} {'<-' if line['edit'] else '='} {line['op']}({', '.join(line['inputs'])})"


# Which line of the improved list makes each value: itself, or in its body.
home: dict[str, int] = {}
for number, line in enumerate(after.lines, 1):
    for part in [line, *line["body"]]:
        for name in part["outputs"]:
            home.setdefault(name, number)
kept = {call(line) for line in after.lines}

print(f"{'as it was traced':58}   after the passes")
gone = fused = 0
for number, line in enumerate(before.lines, 1):
    outputs = line["outputs"]
    at = next((home[name] for name in outputs if name in home), None)
    if call(line) in kept:
        fate = f"line {at}, as it was" if at else "as it was"
    elif not outputs:  # an update, dealt out among the lines that make the gradients
        fused += 1
        homes = [
            n
            for n, other in enumerate(after.lines, 1)
            if line["op"] in {part["op"] for part in [other, *other["body"]]}
        ]
        fate = f"lines {', '.join(map(str, homes))}"
        assert homes
    elif at is not None:
        fused += 1
        fate = f"line {at}: {after.lines[at - 1]['op']}"
    else:
        gone += 1
        fate = "gone"
    print(f"{number:4} {call(line):53.53}   {fate}")

print("\nThe improved list, each fused line with what it does in its body:\n")
for number, line in enumerate(after.lines, 1):
    print(f"{number:4} {call(line)}")
    for part in line["body"]:
        print(f"        {call(part)}")

print(
    f"\n{len(before.lines)} lines became {len(after.lines)}: {fused} were changed or fused, "
    f"{gone} are gone.\nBytes read and written: {before.bytes:,.0f}, now {after.bytes:,.0f}.\n"
    f"Memory: {after.memory['all']:,} bytes of results, now an arena of "
    f"{after.memory['arena']:,}, and {after.memory['kept']:,} kept for gradients and results."
)
assert len(after.lines) < len(before.lines) and after.bytes < before.bytes

# The list that wengert.trace shows of the same step is the one before the passes.
traced = wengert.trace(step)(x, y)
forward = [line.op for line in traced.lines if line.phase == "forward"]
assert forward == [line["op"] for line in before.lines[: len(forward)]]
print("\nThe same step under wengert.trace, with names and with backward beside forward:\n")
print(traced)
