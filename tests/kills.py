"""Kills ranks of `mpiexec --with-ft ulfm` at random places, and looks at what is left of the job:

    python tests/kills.py                      # 100 kills, several minutes
    python tests/kills.py --kills 2 --seed 7

Each job trains a network on four ranks, of which up to three are killed at random times, whichever
they are. Those that are left must go on, do each step once, and end with the bits of a run without
mpiexec. Prints the slowest recovery: from a kill to the end of the step that is repeated, on the
slowest rank.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RANKS, STEPS = 4, 250


def train(directory):
    """What each rank does: a line for each step, of when it ended and of how many ranks."""
    import numpy as np

    import wengert as wg
    from wengert import data, nn, optim, parallel

    comm = parallel.world()
    wg.set_num_threads(1)
    wg.manual_seed(0)
    net = nn.MLP([64, 96, 10], dropout=0.2)
    model = parallel.DataParallel(net, shards=6)
    optimizer = optim.Adam(net.parameters(), lr=0.001)
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((500, 64)), generator.integers(0, 10, 500)
    batches = data.Batches(x, y, 50, seed=1)
    with (directory / f"{os.getpid()}.log").open("w", buffering=1) as log:
        while model.steps < STEPS:
            for batch in model.batches(batches):
                optimizer.zero_grad()
                model.backward(wg.cross_entropy, batch)
                optimizer.step()
                print(time.time(), model.steps, comm.size, file=log)
        bits = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters()))
        print("bits", bits.hexdigest(), file=log)


def read(log):
    """((time, step, ranks) of each step, the bits or None) of a rank."""
    lines = [line.split() for line in log.read_text().splitlines()]
    steps = [(float(line[0]), int(line[1]), int(line[2])) for line in lines if len(line) == 3]
    return steps, next((line[1] for line in lines if line[0] == "bits"), None)


def expected():
    """The bits of a run without mpiexec, and how long its ranks take."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([sys.executable, __file__, "--rank", name], check=True)
        (log,) = Path(name).glob("*.log")
        return read(log)[1]


def job(kills, bits, rng, log=print):
    """Trains with so many kills; the seconds to recover from each that met a step."""
    from wengert import parallel

    env = {
        **os.environ,
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "WENGERT_PARALLEL_TIMEOUT": "60",
    }
    killed, took = {}, []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        command = [parallel.mpiexec(), "--with-ft", "ulfm", "-n", str(RANKS)]
        run = subprocess.Popen(
            [*command, sys.executable, __file__, "--rank", name],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            # A place is a step of a rank, and a part of the time that it takes.
            places = sorted(rng.uniform(2, 0.95 * STEPS) for _ in range(kills))
            for place in places:
                while True:
                    logs = [p for p in directory.glob("*.log") if int(p.stem) not in killed]
                    seen = {p: read(p)[0] for p in logs}
                    if len(logs) == RANKS - len(killed) and all(seen.values()):
                        done, last = min(((s[-1][1], s) for s in seen.values()), key=lambda d: d[0])
                        if done >= int(place):
                            break
                    if run.poll() is not None:
                        raise AssertionError(f"the job ended early: {run.communicate()[0]}")
                    time.sleep(0.002)
                step = (last[-1][0] - last[0][0]) / max(len(last) - 1, 1)
                time.sleep(step * rng.random())
                victim = rng.choice(sorted(int(p.stem) for p in logs))
                killed[victim] = time.time()
                os.kill(victim, signal.SIGKILL)
            printed, _ = run.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGTERM)
            printed, _ = run.communicate(timeout=20)
            ends = {p.stem: read(p)[0][-1] for p in directory.glob("*.log")}
            raise AssertionError(f"the job hangs: killed {killed}, {ends}, {printed}") from None
        finally:
            run.kill()
        assert run.returncode == 0, printed
        survivors = 0
        for path in directory.glob("*.log"):
            steps, got = read(path)
            done = [step for _, step, _ in steps]
            assert done == list(range(1, len(done) + 1)), f"a step was lost or doubled: {done}"
            if int(path.stem) not in killed:
                assert done[-1] == STEPS, f"a rank ended at step {done[-1]}: {printed}"
                assert got == bits, f"other bits: {got}, expected {bits}"
                survivors += 1
        assert survivors == RANKS - kills, printed
        for left, when in zip(range(RANKS - 1, 0, -1), killed.values(), strict=False):
            of = [read(p)[0] for p in directory.glob("*.log") if int(p.stem) not in killed]
            took.append(max(next(t for t, _, n in steps if n <= left) - when for steps in of))
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        train(arguments.rank)
        return
    rng, bits, took = random.Random(arguments.seed), expected(), []
    while len(took) < arguments.kills:
        took += job(min(rng.randint(1, RANKS - 1), arguments.kills - len(took)), bits, rng)
        print(f"{len(took)} kills, the slowest recovery {1e3 * max(took):.0f} ms", flush=True)
    took.sort()
    print(
        f"{len(took)} kills: no step lost or doubled, equal bits; recovery "
        f"{1e3 * took[len(took) // 2]:.0f} ms in the median, {1e3 * took[-1]:.0f} ms at most"
    )


if __name__ == "__main__":
    main()
