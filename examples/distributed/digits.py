"""The 8x8 digits, trained by several processes; any number of them ends with the same bits.

    python examples/distributed/digits.py                              # one process
    mpiexec -n 2 python examples/distributed/digits.py                 # two, on one machine
    mpiexec --hostfile hosts -n 4 python examples/distributed/digits.py

A hostfile names a machine a line, with the processes that it takes: `node1 slots=2`. Each machine
needs the same Python environment and, for a checkpoint, the same directory.
"""

import hashlib

import wengert as wg
from wengert import data, nn, optim, parallel, train

SHARDS = 4  # parts of a batch: bits depend on these, not on the number of processes

comm = parallel.world()
wg.manual_seed(0)
network = nn.MLP([64, 64, 10], dropout=0.1)
model = parallel.DataParallel(network, shards=SHARDS)
optimizer = parallel.ZeroRedundancyOptimizer(network.parameters(), optim.AdamW, lr=0.01)
x, y = data.load_digits()
batches = data.Batches(x[:1400], y[:1400], 64, seed=0)

# A loop of one's own: an epoch.
for batch in model.batches(batches):  # each process prepares its own shards of it
    optimizer.zero_grad()
    loss = model.backward(wg.cross_entropy, batch)
    optimizer.step()

# The rest by train.fit, which evaluates over the ranks.
result = train.fit(model, wg.cross_entropy, optimizer, batches, epochs=4, test=(x[1400:], y[1400:]))
bits = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in network.parameters()))
held = comm.share(optimizer.state_bytes)
if comm.rank == 0:
    print(f"{comm.size} ranks, {SHARDS} shards; a rank sends {model.bytes_per_step:,} bytes a step")
    print(f"state of the optimizer on each rank: {', '.join(f'{n:,}' for n in held)} bytes")
    print(f"test accuracy {100 * result.test['test_accuracy']:.1f} %, bits {bits.hexdigest()[:16]}")
