"""Where communication hides: a step of the network 784-4x2048-10, and a picture of it.

    mpiexec -n 2 python examples/distributed/overlap.py --out overlap.svg
    mpiexec --hostfile hosts -n 2 python examples/distributed/overlap.py

The whole step is compiled: its list has two lines for each bucket of gradients, and the pass
`overlap` has moved the first of them up to the last of these gradients. Rank 0 prints these lines
with their numbers, and how much of the time of communication the step did not wait.
"""

import argparse
import time
from pathlib import Path

import wengert as wg
from wengert import nn, optim, parallel

parser = argparse.ArgumentParser(description="Where communication hides behind computation.")
parser.add_argument("--batch", type=int, default=4096, metavar="N", help="rows of all ranks (4096)")
parser.add_argument("--steps", type=int, default=5, metavar="N", help="steps that are timed (5)")
parser.add_argument("--reduction", default="tree", choices=("tree", "mpi"))
parser.add_argument("--out", metavar="FILE", help="the picture, an SVG")
arguments = parser.parse_args()

comm = parallel.world()
wg.manual_seed(0)
network = nn.MLP([784, 2048, 2048, 2048, 2048, 10])
model = parallel.DataParallel(network, reduction=arguments.reduction)
optimizer = optim.SGD(network.parameters(), lr=0.01)
x, y = wg.randn((arguments.batch, 784)), wg.randint(0, 10, (arguments.batch,))


@wg.compile
def step(x, y):
    """Forward, backward, exchange and update."""
    optimizer.zero_grad()
    loss = model.backward(wg.cross_entropy, x, y)
    optimizer.step()
    return loss


def picture(sent, began, ended):
    """What the step and the network do, from left to right."""

    def bar(start, stop, top, fill, text=""):
        x, width = 90 + 900 * (start - began) / (ended - began), 900 * (stop - start)
        return (
            f'<rect x="{x:.1f}" y="{top}" width="{max(1, width / (ended - began) - 1):.1f}" '
            f'height="24" fill="{fill}"/><text x="{x + 3:.1f}" y="{top + 17}">{text}</text>'
        )

    waited = sum(one.waiting for one in sent)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 140" font-family="sans-serif" '
        'font-size="13"><rect width="1000" height="140" fill="white"/>',
        '<text x="8" y="37">step</text><text x="8" y="77">network</text>',
        bar(began, ended, 20, "#9ecae1"),
        *(bar(one.waits, one.waited, 20, "#de2d26") for one in sent),
        *(bar(one.begun, one.done, 60, "#fdae6b", k) for k, one in enumerate(sent)),
        '<text x="90" y="112">blue: the step computes; red: it waits for a bucket; orange: buckets '
        "of gradients on their way</text>",
        f'<text x="90" y="130">{1e3 * (ended - began):.0f} ms, of which {1e3 * waited:.0f} ms of '
        f"waiting: {100 * parallel.Sent.hidden(sent):.0f} % of communication hidden</text></svg>",
    ]
    return "\n".join(parts) + "\n"


best = (float("inf"), 0.0, 0.0, [])
for i in range(3 + arguments.steps):  # the first makes state, the next is traced
    comm.share(None)
    began = time.perf_counter()
    step(x, y)
    ended = time.perf_counter()
    if i > 2:
        best = min(best, (ended - began, began, ended, model.sent))
seconds, began, ended, sent = best
shares = comm.share((parallel.Sent.hidden(sent), seconds))
if comm.rank == 0:
    for number, line in enumerate(step.program.lines, 1):
        if line["op"] in ("allreduce_start", "allreduce_wait"):
            k = line["attributes"]["bucket"]
            where = f"line {number} of {len(step.program.lines)}"
            print(f"{line['op']:16} bucket {k}: {where}")
    for k, one in enumerate(sent):
        print(
            f"bucket {k}: {one.bytes:,} bytes in {1e3 * one.seconds:.1f} ms, "
            f"waited {1e3 * one.waiting:.1f} ms"
        )
    print(f"{comm.size} ranks, batch {arguments.batch}: {1e3 * seconds:.1f} ms a step")
    print("hidden, by rank:", ", ".join(f"{100 * share:.1f} %" for share, _ in shares))
    if arguments.out:
        Path(arguments.out).write_text(picture(sent, began, ended), encoding="utf-8")
