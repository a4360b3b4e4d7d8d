"""Walk 3: where a gradient is lost, and how the list shows it.

Three models that train, and train wrong: one detaches a value on the way, one edits a value in
place behind the history's back, and in one the gradient of a broadcast bias is a mean where it
should be a sum. For each: the list, what program.check() says, and the lines to look at. `wengert
study --drill` has these and others as riddles.

    python examples/study/lost_gradient.py
"""

import wengert
from wengert.study.drills import DRILLS, drill

for name in ("detach", "in-place", "batch-sum"):
    d = drill(name)
    print(f"==== {name}: {d.story}\n")
    print(d.program)
    checks = d.program.check()
    print(f"\n{checks}\n")
    print(f"Line {' or '.join(map(str, d.lines))}: {d.reason}.\n")
    assert not checks

print("==== What the engine refuses by itself: an edit of a value that a gradient needs\n")
x = wengert.tensor([1.0, 2.0], requires_grad=True)
y = x.exp()
with wengert.no_grad():
    y.mul_(2.0)
try:
    y.sum().backward()
except wengert.GradientError as error:
    print(f"GradientError: {error}\n")
else:
    raise AssertionError("the edit went unnoticed")

print(f"{len(DRILLS)} drills; check() finds the fault in each:")
for name in DRILLS:
    found = not drill(name).program.check()
    print(f"  {name:20} {'found' if found else 'MISSED'}")
    assert found
