"""wengert.parallel: the same bits for any number of ranks, and errors that all ranks see."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import kills
import numpy as np
import pytest

import wengert as wg
from wengert import data, nn, optim, parallel
from wengert.io import load_checkpoint
from wengert.parallel import tree


def has_mpi() -> bool:
    try:
        parallel.mpiexec()
        import mpi4py  # noqa: F401
    except (ImportError, FileNotFoundError):
        return False
    return True


needs_mpi = pytest.mark.skipif(not has_mpi(), reason='no MPI here: pip install "wengert[mpi]"')

# Openmpi's launcher refuses more ranks than cores, and root, unless told.
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
ALLOWED = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", **AS_ROOT}


def mpiexec(ranks, *command, before=(), **env):
    return subprocess.run(
        [parallel.mpiexec(), *before, "-n", str(ranks), sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **ALLOWED, **env},
    )


def alone(*command):
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120
    )


def printed(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def network(dtype="float32", drop=0.0):
    wg.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8, dtype=dtype), nn.ReLU(), nn.Dropout(drop), nn.Linear(8, 3, dtype=dtype)
    )


def rows(n=13, dtype="float32"):
    generator = np.random.default_rng(0)
    x = wg.tensor(generator.standard_normal((n, 6)), dtype)
    return x, wg.tensor(generator.integers(0, 3, n))


def grads(model):
    return [p.grad.numpy().copy() for p in model.parameters()]


# ---- the tree


def test_rows_are_cut_with_the_longer_parts_first():
    assert [list(r) for r in parallel.cut(5, 3)] == [[0, 1], [2, 3], [4]]
    assert [len(r) for r in parallel.cut(2, 4)] == [1, 1, 0, 0]


@pytest.mark.parametrize("leaves", [1, 2, 3, 4, 5, 6, 7, 8, 13])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_tree_has_one_order_for_any_number_of_ranks(leaves, ranks):
    values = np.random.default_rng(1).standard_normal((leaves, 11)).astype("float32")

    def by_hand(level):
        if len(level) == 1:
            return level[0]
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        return by_hand([p[0] + p[1] if len(p) == 2 else p[0] for p in pairs])

    owners = tree.cut(leaves, ranks)

    def rank(comm):
        own = tree.Tree(np.add)
        for leaf in owners[comm.rank]:
            own.add(leaf, values[leaf].copy())
        nodes = list(own.nodes.values()) or [np.zeros(11, "float32")]
        tree.allreduce(comm, nodes, owners)
        return nodes[0]

    for total in parallel.Threads.run(ranks, rank):
        np.testing.assert_array_equal(total, by_hand(list(values)))


# ---- DataParallel, in one process


def test_one_shard_has_the_bits_of_a_plain_step():
    x, y = rows()
    plain = network(drop=0.5)
    wg.cross_entropy(plain(x), y).backward()
    model = parallel.DataParallel(network(drop=0.5), shards=1)
    model.backward(wg.cross_entropy, x, y)
    for a, b in zip(grads(model), grads(plain), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shards", [2, 3, 4, 16])
def test_shards_agree_with_the_unsharded_step_to_rounding(shards):
    x, y = rows(13, "float64")
    plain = network("float64")
    expected = wg.cross_entropy(plain(x), y)
    expected.backward()
    model = parallel.DataParallel(network("float64"), shards=shards)
    loss = model.backward(wg.cross_entropy, x, y)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-14)
    for a, b in zip(grads(model), grads(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_backward_adds_to_gradients_and_accumulate_exchanges_once():
    x, y = rows(12, "float64")
    plain = network("float64")
    for part in (slice(0, 5), slice(5, 12)):
        (wg.cross_entropy(plain(x[part]), y[part]) / 2).backward()
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]
    model = parallel.DataParallel(network("float64"), shards=3)
    model.accumulate(wg.cross_entropy, batches)
    for a, b in zip(grads(model), grads(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    model.accumulate(wg.cross_entropy, batches)
    for a, b in zip(grads(model), grads(plain), strict=True):
        np.testing.assert_allclose(a, 2 * b, rtol=1e-12, atol=1e-15)


def test_running_statistics_are_the_mean_over_shards():
    x, y = rows(8, "float64")
    norm = nn.Sequential(nn.BatchNorm1d(6, dtype="float64"), nn.Linear(6, 3, dtype="float64"))
    model = parallel.DataParallel(norm, shards=2)
    model.backward(wg.cross_entropy, x, y)
    means = [x.numpy()[:4].mean(axis=0), x.numpy()[4:].mean(axis=0)]
    np.testing.assert_allclose(norm[0].running_mean.numpy(), 0.1 * sum(means) / 2, rtol=1e-12)
    assert norm[0].num_batches_tracked.item() == 1


def test_bfloat16_parameters_and_inputs():
    def loss_of(prediction, y):
        return (prediction.float() - y.float()).square().mean()

    x, y = wg.ones((5, 3)).bfloat16(), wg.zeros((5, 2)).bfloat16()
    nets = []
    for shards in (1, 2):
        wg.manual_seed(0)
        nets.append(nn.Linear(3, 2).bfloat16())
        parallel.DataParallel(nets[-1], shards=shards).backward(loss_of, x, y)
    one, two = (net.weight.grad for net in nets)
    assert two.dtype == wg.bfloat16
    np.testing.assert_allclose(two.float().numpy(), one.float().numpy(), rtol=0.02)


def test_a_parameter_that_no_shard_uses_has_no_gradient():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x):
            return self.used(x)

    model = parallel.DataParallel(Half(), shards=2)
    model.backward(wg.cross_entropy, *rows())
    assert model.module.unused.weight.grad is None
    assert model.module.used.weight.grad is not None


def test_ranks_of_a_double_have_equal_gradients_and_mpi_order_is_near():
    x, y = rows()
    model = parallel.DataParallel(network(), shards=4)
    model.backward(wg.cross_entropy, x, y)
    networks = [network() for _ in range(8)]

    def rank(reduction, comm):
        own = networks.pop() if reduction == "tree" else networks.pop(0)
        double = parallel.DataParallel(own, shards=4, comm=comm, reduction=reduction)
        # Each thread sets the process's generator; without dropout it changes nothing.
        double.backward(wg.cross_entropy, x, y)
        return grads(double)

    for got in parallel.Threads.run(4, lambda comm: rank("tree", comm)):
        for a, b in zip(got, grads(model), strict=True):
            np.testing.assert_array_equal(a, b)
    for got in parallel.Threads.run(2, lambda comm: rank("mpi", comm)):
        for a, b in zip(got, grads(model), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# ---- batches of shards


class Reads:
    """A dataset that notes which samples are read."""

    def __init__(self, n):
        self.n, self.read = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        return np.float32([i, -i]), i % 3


def noise(x, generator):
    return x + generator.standard_normal(x.shape)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_each_rank_prepares_its_own_shards_and_any_number_has_the_same_bits(ranks):
    """11 samples in batches of 5, 5 and 1: the last one has a row for one shard of four."""

    def changed(x, y, draws):
        return x + draws.uniform(size=x.size).reshape(x.shape), y

    def batches(source):
        return data.Batches(source, batch_size=5, seed=4, augment=[changed], transform=noise)

    whole = [
        [part for s in range(min(4, batch.rows)) for part in batch.part(s)]
        for batch in batches(Reads(11)).sharded(4, range(4))
    ]
    sources = [Reads(11) for _ in range(ranks)]
    for source, mine in zip(sources, parallel.cut(4, ranks), strict=True):
        source.read.clear()
        given = batches(source)
        source.read.clear()  # sample 0, whose form is looked at
        seen = list(given.sharded(4, mine))
        assert given.state_dict() == {"epoch": 1, "batch": 0}
        for batch, parts in zip(seen, whole, strict=True):
            for s in mine:
                if s < batch.rows:
                    for a, b in zip(batch.part(s), parts[2 * s : 2 * s + 2], strict=True):
                        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert sorted(i for source in sources for i in source.read) == list(range(11))


@pytest.mark.parametrize("processes", [False, True])
def test_workers_prepare_the_shards_and_a_lost_rank_s_are_made_when_asked_for(processes):
    x, y = np.arange(24.0).reshape(12, 2), np.arange(12)

    def seen(mine, **more):
        batches = data.Batches(x, y, 6, transform=noise, **more).sharded(3, mine)
        return [[t.tolist() for s in range(3) for t in batch.part(s)] for batch in batches]

    assert seen([1], workers=2, processes=processes) == seen(range(3)) == seen([])


def test_one_shard_is_the_batch_itself_and_random_changes_know_the_shard():
    x = np.zeros((6, 2))
    batches = data.Batches(x, np.zeros(6), 6, transform=noise)
    ((whole, _),) = batches
    batches.load_state_dict({"epoch": 0, "batch": 0})
    (one,) = batches.sharded(1, [0])
    batches.load_state_dict({"epoch": 0, "batch": 0})
    (three,) = batches.sharded(3, [])
    np.testing.assert_array_equal(one.part(0)[0].numpy(), whole.numpy())
    parts = [three.part(s)[0].tolist() for s in range(3)]
    assert len({str(part) for part in parts}) == 3


def test_backward_takes_a_batch_of_shards():
    x, y = rows(13, "float64")
    networks = [network("float64") for _ in range(3)]
    whole = parallel.DataParallel(networks[0], shards=3)
    loss = whole.backward(wg.cross_entropy, x, y)
    model = parallel.DataParallel(networks[1], shards=3)
    batches = data.Batches(x.numpy(), y.numpy(), 13, shuffle=False, dtype="float64")
    (batch,) = model.batches(batches)
    assert model.backward(wg.cross_entropy, batch).item() == loss.item()
    for a, b in zip(grads(model), grads(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"a batch of 3 shards for a model of 2.*model\.batches"):
        parallel.DataParallel(networks[2], shards=2).backward(wg.cross_entropy, batch)


# ---- the lines of a compiled step


def places(listing, *names):
    """Line numbers of ops by name."""
    return [[i for i, line in enumerate(listing.lines) if line["op"] == n] for n in names]


def steps_of(comm, network, passes=None):
    """The weights after three compiled steps of two buckets, and the list."""
    model = parallel.DataParallel(network, shards=3, comm=comm)
    optimizer = optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = model.backward(wg.cross_entropy, x, y)
        optimizer.step()
        return loss

    compiled = wg.compile(step, passes=passes) if passes != () else step
    x, y = rows()
    losses = [compiled(x, y).item() for _ in range(4)]
    assert model.steps == 4
    assert [one.bytes for one in model.sent] == [4 * (3 + 24), 4 * (8 + 48)]
    bits = [p.detach().numpy().copy() for p in network.parameters()]
    return losses, bits, compiled.program if passes != () else None


def test_buckets_are_lines_that_begin_behind_their_last_gradient(monkeypatch):
    monkeypatch.setattr(parallel.exchange, "BUCKET", 100)
    without = tuple(name for name in wg.compiling.PASSES if name != "overlap")
    networks = [network() for _ in range(6)]
    found = [
        parallel.Threads.run(2, lambda comm, p=passes: steps_of(comm, networks.pop(), p))
        for passes in ((), without, None)
    ]
    for ranks in found:
        for losses, bits, _ in ranks:
            assert losses == found[0][0][0]
            for a, b in zip(bits, found[0][0][1], strict=True):
                np.testing.assert_array_equal(a, b)
    # Both buckets begin at the end of backward, or one of them before the last matmul of it.
    for listing, hidden in ((found[1][0][2], 0), (found[2][0][2], 1)):
        starts, waits, ends, updates = places(
            listing, "allreduce_start", "allreduce_wait", "agree", "sgd_step"
        )
        matmuls = [i for i, line in enumerate(listing.lines) if "matmul" in str(line)]
        assert listing.lines[starts[0]]["attributes"]["bucket"] == 0
        assert sum(start < matmuls[-1] for start in starts) == hidden
        assert starts[0] < starts[1] < waits[0] < waits[1] < ends[0] < updates[0]


def test_the_page_of_a_step_shows_which_messages_were_hidden(monkeypatch, tmp_path):
    """Of the last step, whichever way it ran; `model.sent` is where its numbers are from."""
    monkeypatch.setattr(parallel.exchange, "BUCKET", 100)
    networks = [network() for _ in range(4)]

    def rank(comm):
        model = parallel.DataParallel(networks[comm.rank], shards=2, comm=comm)
        other = parallel.DataParallel(networks[2 + comm.rank], shards=2, comm=comm)
        compiled = wg.compile(lambda x, y: model.backward(wg.cross_entropy, x, y))
        program = wg.trace(compiled)(*rows())
        other.backward(wg.cross_entropy, *rows())
        for _ in range(3):
            for p in model.parameters():
                p.grad = None
            compiled(*rows())
        return program, model

    program, model = parallel.Threads.run(2, rank)[0]
    starts, waits = (
        [x.number for x in program.lines if x.op == name]
        for name in ("allreduce_start", "allreduce_wait")
    )
    # Those lines alone: what they do inside has none.
    assert [x.op for x in program.lines if program.lines[starts[0] - 1].inputs[0] in x.inputs] == [
        "compare_batches", *["allreduce_start"] * 2, *["allreduce_wait"] * 2, "agree"
    ]  # fmt: skip
    run = program.run()
    run.to_end()
    for p, (leaf, _, after) in zip(model.parameters(), program.leaf_gradients, strict=True):
        assert program.values[leaf].shape == p.shape
        np.testing.assert_array_equal(run.array(after), p.grad.numpy())
    data = page_data(program.to_html(tmp_path / "page.html"))
    shown = data["sent"]
    assert shown == [
        [*lines, one.bytes, one.seconds, one.waiting, parallel.Sent.hidden([one])]
        for *lines, one in zip(starts, waits, model.sent, strict=True)
    ]
    sums = [sum(row[i] for row in shown) for i in (2, 3, 4)]
    assert data["sent_all"] == [*sums, parallel.Sent.hidden(model.sent)]
    plain = wg.trace(lambda x: x * 2)(wg.ones(3)).to_html(tmp_path / "plain.html")
    assert page_data(plain)["sent"] == []
    one = parallel.Sent(1000, 0.0, 1.0, 3.0, 2.5, 3.0)  # 2 s on the way, 0.5 s of waiting
    assert parallel.Sent.hidden([one, one]) == 0.75


def page_data(path):
    text = re.search(r'type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)[1]
    return json.loads(text)


def test_a_step_that_is_left_in_the_midst_of_its_exchange_is_an_error(monkeypatch):
    """As by an error of this rank alone, which its program has caught."""
    x, y = rows(12)
    networks = [network() for _ in range(2)]

    def rank(comm):
        model = parallel.DataParallel(networks[comm.rank], shards=2, comm=comm)
        before = [p.detach().numpy().copy() for p in model.parameters()]

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(model._wire, "_wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                model.backward(wg.cross_entropy, x, y)
        for p, value in zip(model.parameters(), before, strict=True):
            np.testing.assert_array_equal(p.detach().numpy(), value)
        assert all(p.grad is None for p in model.parameters())
        with pytest.raises(
            parallel.ParallelError, match=f"rank {comm.rank} left a step in the mid"
        ):
            model.backward(wg.cross_entropy, x, y)

    parallel.Threads.run(2, rank)


# ---- ZeRO


@pytest.mark.parametrize("name", sorted(parallel.zero._BY_NUMBER))
def test_a_spread_state_updates_as_the_optimizer_itself(name):
    """Three ranks, two groups, a schedule; the state goes over to two ranks and to none."""
    kind = getattr(optim, name)

    def groups(net):
        first, *rest = net.parameters()
        return [{"params": [first], "lr": 0.02}, {"params": rest}]

    def train(net, optimizer, steps):
        schedule = optim.StepLR(optimizer, 2)
        generator = np.random.default_rng(5)
        for _ in range(steps):
            for p in net.parameters():
                p.grad = wg.tensor(generator.standard_normal(p.shape), "float32")
            optimizer.step()
            schedule.step()
        return [p.detach().numpy().copy() for p in net.parameters()]

    plain = network()
    optimizer = kind(groups(plain), lr=0.01)
    expected, whole = train(plain, optimizer, 3), optimizer.state_dict()
    networks = [network() for _ in range(5)]

    def rank(comm):
        net = networks.pop()
        spread = parallel.ZeroRedundancyOptimizer(groups(net), kind, comm, lr=0.01)
        got = train(net, spread, 3)
        spread.consolidate_state_dict()
        return got, spread.state_dict(), spread.state_bytes

    found = parallel.Threads.run(3, rank)
    size = sum(
        v.numel() * v.itemsize for e in whole["state"].values() for v in e.values() if v.ndim
    )
    for got, state, held in found:
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        assert state["param_groups"] == whole["param_groups"]
        assert state["state"].keys() == whole["state"].keys()
        for i, entry in whole["state"].items():
            assert entry.keys() == state["state"][i].keys()
            for key, value in entry.items():
                np.testing.assert_array_equal(state["state"][i][key].numpy(), value.numpy())
        assert abs(held - size / 3) <= 4 * len(next(iter(whole["state"].values())))

    later = train(plain, optimizer, 2)
    state = found[0][1]

    def restored(comm):
        net = networks.pop()
        for p, value in zip(net.parameters(), expected, strict=True):
            p.detach().copy_(wg.tensor(value))
        spread = parallel.ZeroRedundancyOptimizer(groups(net), kind, comm, lr=0.5)
        spread.load_state_dict(state)
        return train(net, spread, 2)

    for got in parallel.Threads.run(2, restored):
        for a, b in zip(got, later, strict=True):
            np.testing.assert_array_equal(a, b)


def test_errors_of_a_spread_optimizer():
    net = network()
    with pytest.raises(ValueError, match="LAMB may look at more than one number"):
        parallel.ZeroRedundancyOptimizer(net.parameters(), optim.LAMB)
    with pytest.raises(ValueError, match=r"parameter 0, of shape .*, is a view with strides"):
        parallel.ZeroRedundancyOptimizer([wg.ones((2, 3)).T], optim.SGD)
    alone_ = parallel.ZeroRedundancyOptimizer(net.parameters(), optim.Adam, parallel.Alone())
    with pytest.raises(TypeError, match="give all groups to the constructor"):
        alone_.add_param_group({"params": [nn.Parameter(wg.ones(2))]})
    assert alone_.state_dict()["state"] == {}
    with pytest.raises(ValueError, match="nothing was loaded"):
        alone_.load_state_dict({"state": {9: {"step": wg.tensor(1)}}, "param_groups": []})

    def rank(comm):
        one = parallel.ZeroRedundancyOptimizer([nn.Parameter(wg.ones(1))], optim.SGD, comm, lr=1.0)
        one.param_groups[0]["params"][0].grad = wg.ones(1)
        one.step()  # one number, two ranks
        with pytest.raises(RuntimeError, match=r"call consolidate_state_dict\(\) on all"):
            one.state_dict()
        return one.param_groups[0]["params"][0].item()

    assert parallel.Threads.run(2, rank) == [0.0, 0.0]


# ---- errors


def test_errors_of_one_process():
    x, y = rows()
    model = parallel.DataParallel(network(), shards=2)
    with pytest.raises(parallel.ParallelError, match=r"use backward\(loss_fn, x, y\)"):
        model(x)
    model.eval()
    assert model(x).shape == (13, 3)
    with pytest.raises(ValueError, match="13 inputs and 12 targets"):
        model.backward(wg.cross_entropy, x, y[:12])
    for shards in (0, True, 1.5):
        with pytest.raises(ValueError, match=f"shards is {shards}"):
            parallel.DataParallel(network(), shards=shards)
    with pytest.raises(ValueError, match="reduction is 'ring'"):
        parallel.DataParallel(network(), reduction="ring")


def test_fewer_shards_than_ranks_leave_a_rank_without_data():
    with pytest.raises(ValueError, match=r"there are 3 ranks.*a rank would have no data"):
        parallel.Threads.run(3, lambda c: parallel.DataParallel(network(), shards=2, comm=c))


def test_ranks_that_differ_are_named_on_all_of_them():
    def failing(facts):
        def rank(comm):
            with pytest.raises(parallel.ParallelError) as told:
                parallel.require_alike(comm, facts(comm.rank))
            return str(told.value)

        texts = parallel.Threads.run(3, rank)
        assert len(set(texts)) == 1
        return texts[0]

    assert "batch is 33 on rank 2 and 32 on rank 0" in failing(lambda r: {"batch": 32 + r // 2})
    facts = [{**parallel.alike.facts_of(network(d))} for d in ("float32", "float64", "float32")]
    text = failing(lambda r: facts[r])
    assert "shape of 0.weight is 'float64[8, 6]' on rank 1" in text
    old = {**facts[0], "version of wengert": "0.0.1"}
    text = failing(lambda r: [facts[0], old, old][r])
    assert "version of wengert is '0.0.1' on rank 1" in text and "Install the same" in text


def test_a_communicator_is_of_one_thread():
    def rank(comm):
        comm.share(0)
        caught = []

        def other():
            try:
                comm.share(1)
            except parallel.ParallelError as error:
                caught.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert comm.share(comm.rank) == [0, 1]  # nothing was lost
        return caught

    found = parallel.Threads.run(2, rank)
    assert [f"rank {r}'s communicator belongs to another thread" in found[r][0] for r in (0, 1)]


def test_a_number_that_is_not_finite_stops_all_ranks_at_the_same_step():
    x, y = rows(12)
    networks = [network() for _ in range(2)]

    def rank(comm):
        model = parallel.DataParallel(networks[comm.rank], shards=4, comm=comm)
        model.backward(wg.cross_entropy, x, y)
        before = [p.detach().numpy().copy() for p in model.parameters()]
        spoiled = x.clone()
        spoiled[7, 2] = float("nan")
        with pytest.raises(parallel.NotFiniteError) as told:
            model.backward(wg.cross_entropy, spoiled, y)
        for p, value in zip(model.parameters(), before, strict=True):
            np.testing.assert_array_equal(p.detach().numpy(), value)
        with pytest.raises(parallel.NotFiniteError) as line:
            model.backward(lambda a, b: (a - a - 1).log().mean(), x, y)
        return str(told.value), str(line.value)

    (nan, line), other = parallel.Threads.run(2, rank)
    assert (nan, line) == other
    assert nan.startswith("step 2, rank 1, shard 2 (rows 6 to 8 of the batch): the loss is nan")
    assert "inputs of these rows hold NaN" in nan
    assert "rank 0, shard 0" in line and "log" in line


def test_ranks_that_are_given_different_batches_are_told():
    x, y = rows(12)
    networks = [network() for _ in range(2)]

    def rank(comm):
        model = parallel.DataParallel(networks[comm.rank], shards=2, comm=comm)
        for seed, y_ in ((comm.rank, y.numpy()), (0, y.numpy() * comm.rank)):
            (batch,) = model.batches(data.Batches(x.numpy(), y_, 12, seed=seed))
            with pytest.raises(parallel.ParallelError, match="rank 1 was given another batch"):
                model.backward(wg.cross_entropy, batch)
        mine = slice(comm.rank * 6, comm.rank * 6 + 6)
        for other in ((x[mine], y[mine]), (x, y * comm.rank), (x[: 12 - comm.rank], y)):
            n = min(map(len, other))
            with pytest.raises(parallel.ParallelError, match="rank 1 was given another batch"):
                model.backward(wg.cross_entropy, other[0][:n], other[1][:n])
        model.backward(wg.cross_entropy, x, y)

    parallel.Threads.run(2, rank)


def test_missing_packages_name_the_line_that_installs_them(tmp_path):
    code = "import sys; sys.modules['mpi4py'] = None; import wengert as w; w.parallel.MPI()"
    done = alone("-c", code)
    assert 'ImportError: wengert.parallel needs MPI: pip install "wengert[mpi]"' in done.stderr
    code = (
        "import sys, wengert as w; from pathlib import Path; "
        f"sys.executable = {str(tmp_path / 'python')!r}; w.parallel.mpiexec()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": str(tmp_path)}
    )
    assert 'there is no mpiexec: pip install "wengert[mpi]"' in done.stderr


def test_world_without_mpiexec_is_alone_and_loads_nothing():
    code = (
        "import sys, wengert as w; c = w.parallel.world(); print(c.size, 'mpi4py' in sys.modules)"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI", "PMI"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["1", "False"]


# ---- mpiexec

SAME_BITS = """
import hashlib, json
import numpy as np
import wengert as wg
from wengert import nn, optim, parallel, data

def bits(shards, compile=False, reduction="tree", whole=None):
    wg.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
                        nn.Linear(16, 10))
    model = parallel.DataParallel(net, shards, compile=compile, reduction=reduction)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    x, y = data.load_digits()

    def step(*batch):
        optimizer.zero_grad()
        loss = model.backward(wg.cross_entropy, *batch)
        optimizer.step()
        return loss

    step = wg.compile(step) if whole else step
    if whole is None:
        flips = [lambda x, y, draws: (x * (draws.uniform(size=x.size) < 0.9).reshape(x.shape), y)]
        batches = data.Batches(x[:250], y[:250], 33, seed=3, augment=flips)
        batches = [(batch,) for batch in model.batches(batches)]
    else:
        batches = data.Batches(x[:250], y[:250], 33, seed=3)
    for batch in batches:
        loss = step(*batch)
    if whole and parallel.world().size > 1:  # the lines were there
        assert "allreduce_start" in str(step.program)
    state = b"".join(np.ascontiguousarray(t.detach().numpy()).tobytes()
                     for t in net.state_dict().values())
    return hashlib.sha256(state).hexdigest(), loss.item()

found = {"eager": bits(4), "compiled": bits(4, True), "odd": bits(5), "compiled odd": bits(5, True)}
for shards in (4, 5):  # the whole step, eager and compiled
    found[f"step {shards}"] = [bits(shards, whole=whole) for whole in (False, True)]
nearly = bits(4, reduction="mpi")[1]
comm = parallel.world()
found["equal on all ranks"] = len(set(map(repr, comm.share(found)))) == 1
if comm.rank == 0:
    print(json.dumps([found, comm.size, nearly, wg.num_threads()]))
"""


@needs_mpi
def test_bits_depend_on_shards_and_not_on_ranks(tmp_path):
    script = tmp_path / "bits.py"
    script.write_text(SAME_BITS)
    first, size, nearly, _ = printed(alone(script))
    assert size == 1 and first["eager"] == first["compiled"] != first["odd"]
    assert first["odd"] == first["compiled odd"] and first["equal on all ranks"]
    assert all(first[f"step {n}"][0] == first[f"step {n}"][1] for n in (4, 5))
    for ranks in (2, 4):
        found, size, near, threads = printed(mpiexec(ranks, script))
        assert (found, size) == (first, ranks)
        assert near == pytest.approx(nearly, rel=1e-3)
        assert threads == max(1, len(os.sched_getaffinity(0)) // ranks)


BAD = """
import threading, json
import wengert as wg
from wengert import nn, optim, parallel

comm = parallel.world()
found = {}

def told(name, fn):
    try:
        fn()
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"

def model(n=3, dtype="float32", seed=0):
    wg.manual_seed(seed)
    return parallel.DataParallel(nn.Linear(4, n, dtype=dtype))

told("model", lambda: model(3 + comm.rank))
told("dtype", lambda: model(dtype=("float32", "float64")[comm.rank]))
told("seed", lambda: model(seed=comm.rank))
good = model()
x = wg.ones((6, 4))
x[5, 0] = float("nan")
told("nan", lambda: good.backward(wg.mse_loss, x, wg.zeros((6, 3))))
thread = threading.Thread(target=told, args=("thread", lambda: comm.share(1)))
thread.start(); thread.join()
all_ = comm.share(found)
if comm.rank == 0:
    print(json.dumps(all_))
"""


@needs_mpi
def test_bad_input_over_mpi(tmp_path):
    script = tmp_path / "bad.py"
    script.write_text(BAD)
    first, second = printed(mpiexec(2, script))
    assert "shape of weight is 'float32[4, 4]' on rank 1 and 'float32[3, 4]'" in first["model"]
    assert "float64[3, 4]" in first["dtype"]
    assert "Call wengert.manual_seed with one seed on all ranks" in first["seed"]
    assert "NotFiniteError: step 1, rank 1, shard 1 (rows 3 to 5 of the batch)" in first["nan"]
    assert "rank 1's communicator" in second.pop("thread")
    assert "rank 0's communicator" in first.pop("thread")
    assert first == second


KILL = "os.kill(os.getpid(), 9)"


@needs_mpi
@pytest.mark.parametrize(
    ("before", "after"),
    [("", "raise ValueError('spoiled')"), ("", KILL), (KILL, "")],
    ids=["raised", "killed", "killed before the first collective"],
)
def test_a_rank_that_ends_ends_the_job_with_its_number(tmp_path, before, after):
    script = tmp_path / "end.py"
    script.write_text(
        "import os, wengert as wg\nfrom wengert import nn, parallel\n"
        f"if parallel.launched()[0] == 1:\n    {before or 'pass'}\ncomm = parallel.world()\n"
        f"if comm.rank == 1:\n    {after or 'pass'}\nparallel.DataParallel(nn.Linear(2, 2))\n"
    )
    done = mpiexec(2, script)
    assert done.returncode != 0
    assert "rank 1" in done.stderr + done.stdout
    assert KILL in (before, after) or "ValueError: spoiled" in done.stderr


@needs_mpi
def test_survivors_of_killed_ranks_repeat_the_step_and_end_with_equal_bits():
    """`python tests/kills.py` does so a hundred times."""
    assert len(kills.job(2, kills.expected(), random.Random(1))) == 2


EVALUATED = """
import os, sys
import numpy as np
import wengert as wg
from wengert import data, nn, optim, parallel, train

comm = parallel.world()
dies, calls = comm.rank == int(sys.argv[1]) and comm.size > 1, 0

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        global calls
        calls += not self.training
        if dies and calls == 2:  # in the second epoch's evaluation
            os.kill(os.getpid(), 9)
        return self.layer(x)

wg.manual_seed(0)
model = parallel.DataParallel(Net(), shards=4)
x, y = data.load_digits()
result = train.fit(model, wg.cross_entropy, optim.SGD(model.parameters(), lr=0.01),
                   data.Batches(x[:400], y[:400], 100), epochs=3, validation=(x[800:], y[800:]))
if comm.rank == 0:
    print([m["validation_loss"] for m in result.history])
"""


@needs_mpi
def test_a_rank_that_is_lost_in_an_evaluation(tmp_path):
    script = tmp_path / "evaluated.py"
    script.write_text(EVALUATED)
    expected = alone(script, 9)
    assert expected.returncode == 0, expected.stderr
    for rank in (1, 0):
        done = mpiexec(3, script, rank, before=["--with-ft", "ulfm"])
        if rank == 0:
            assert done.returncode != 0 and "rank 0, which kept the files, was lost" in done.stderr
        else:
            assert done.stdout == expected.stdout, done.stderr


ENDED = """
import os, sys
import wengert as wg
from wengert import nn, parallel

comm = parallel.world()
wg.manual_seed(0)
model = parallel.DataParallel(nn.Linear(2, 2), shards=4)

def loss_of(prediction, y):
    if comm.lost == [] and comm.rank == 1:
        os.kill(os.getpid(), 9)
    return wg.mse_loss(prediction, y)

model.backward(loss_of, wg.ones((8, 2)), wg.zeros((8, 2)))
print(comm.lost, flush=True)
raise {"status": SystemExit(5), "error": ValueError("late")}[sys.argv[1]]
"""


@needs_mpi
@pytest.mark.parametrize(("end", "status"), [("status", 5), ("error", 1)])
def test_a_loss_hides_no_status(tmp_path, end, status):
    script = tmp_path / "ended.py"
    script.write_text(ENDED)
    done = mpiexec(3, script, end, before=["--with-ft", "ulfm"])
    assert done.returncode == status, done.stderr
    assert "[1]" in done.stdout
    assert "of 2: of those at the start, rank 1 was lost" in done.stderr


SPREAD = """
import hashlib, os, sys
import wengert as wg
from wengert import data, nn, optim, parallel, train

comm = parallel.world()
dies, calls = comm.rank == 1 and sys.argv[2] == "dies", 0

def loss_of(prediction, y):
    global calls
    calls += 1
    if dies and calls == 6:  # in the second epoch
        os.kill(os.getpid(), 9)
    return wg.cross_entropy(prediction, y)

wg.manual_seed(0)
net = nn.Linear(64, 10)
model = parallel.DataParallel(net, shards=3)
optimizer = parallel.ZeroRedundancyOptimizer(net.parameters(), optim.Adam, lr=0.01)
x, y = data.load_digits()
resume = f"{sys.argv[1]}/last.safetensors" if sys.argv[2] == "resumes" else None
train.fit(model, loss_of, optimizer, data.Batches(x[:200], y[:200], 50), epochs=2,
          run_dir=sys.argv[1], compile=False, resume=resume)
if comm.rank == 0:
    print(hashlib.sha256(net.weight.detach().numpy().tobytes()).hexdigest())
"""


@needs_mpi
def test_a_lost_part_of_a_spread_state_is_an_error_that_names_the_rank(tmp_path):
    script = tmp_path / "spread.py"
    script.write_text(SPREAD)
    whole = alone(script, tmp_path / "whole", "")
    done = mpiexec(3, script, tmp_path / "cut", "dies", before=["--with-ft", "ulfm"])
    assert done.returncode == 1
    assert re.search(r"ParallelError: Zero.*: rank 1 was lost, and the part.*--resume", done.stderr)
    resumed = mpiexec(2, script, tmp_path / "cut", "resumes")
    assert resumed.stdout == whole.stdout != "", resumed.stderr


def test_a_spread_state_is_not_collected_without_a_part_of_it():
    class Loses(parallel.Alone):
        """Three ranks, of which 0 and 2 are lost in the midst of a message."""

        rank, size = 1, 3

        def all_gather(self, x, sizes):
            raise parallel.RankLostError("all_gather")

        def agree(self, good):
            assert not good
            self.size, self.lost = 1, [0, 2]
            return good

    p = nn.Parameter(wg.ones(6))
    p.grad = wg.ones(6)
    optimizer = parallel.ZeroRedundancyOptimizer([p], optim.Adam, Loses())
    for call in (optimizer.step, optimizer.step, optimizer.consolidate_state_dict):
        with pytest.raises(parallel.ParallelError, match="ranks 0, 2 were lost, and the part of"):
            call()


@needs_mpi
def test_a_rank_that_does_not_come_is_an_error_within_the_timeout(tmp_path):
    script = tmp_path / "late.py"
    script.write_text(
        "import time\nfrom wengert import parallel\ncomm = parallel.world()\n"
        "time.sleep(60) if comm.rank else comm.share(1)\n"
    )
    done = mpiexec(2, script, WENGERT_PARALLEL_TIMEOUT="1", WENGERT_THREADS="1")
    assert done.returncode != 0
    assert "rank 0 of 2 has waited for 1 s: another rank has died" in done.stderr


# ---- two machines: network namespaces with names of their own, joined by a cable

AGENT = """#!/bin/sh
machine=machine${1##*.}; shift
exec ip netns exec $(cat $(dirname $0)/$machine) unshare -u sh -c "hostname $machine; $*"
"""


@pytest.fixture
def machines(tmp_path):
    """(the command of mpiexec on both, the names of the namespaces)"""
    names = [f"wengert-{os.getpid()}-{i}" for i in (1, 2)]

    def ip(*command):
        return subprocess.run(["ip", *command], capture_output=True, check=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "cable", "netns",
           names[1])  # fmt: skip
        for i, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
            (tmp_path / f"machine{i}").write_text(name)
        (tmp_path / "hosts").write_text("10.77.0.1 slots=1\n10.77.0.2 slots=1\n")
        (tmp_path / "agent").write_text(AGENT)
        (tmp_path / "agent").chmod(0o755)
        on_first = [str(tmp_path / "agent"), "10.77.0.1"]
        subprocess.run([*on_first, "true"], capture_output=True, check=True)
        launcher = (
            f"{parallel.mpiexec()} --prtemca plm ssh --prtemca plm_ssh_agent {tmp_path}/agent "
            "--prtemca prte_if_include 10.77.0.0/24 --mca pml ob1 --mca btl self,tcp "
            "--mca btl_tcp_if_include 10.77.0.0/24 -x WENGERT_PARALLEL_TIMEOUT "
            f"--hostfile {tmp_path}/hosts -n 2"
        )
        yield [*on_first, launcher, sys.executable], names
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    finally:
        for name in names:
            with contextlib.suppress(OSError):
                inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True)
                for pid in map(int, inside.stdout.split()):
                    os.kill(pid, signal.SIGKILL)
                subprocess.run(["ip", "netns", "del", name], capture_output=True)


@needs_mpi
def test_a_cut_network_ends_the_job(machines, tmp_path):
    command, names = machines
    script = tmp_path / "steps.py"
    script.write_text(
        "import socket, wengert as wg\nfrom wengert import nn, parallel\n"
        "model = parallel.DataParallel(nn.Linear(4, 3))\n"
        "hosts = model.comm.share(socket.gethostname())\n"
        "while True:\n    model.backward(wg.mse_loss, wg.ones((4, 4)), wg.zeros((4, 3)))\n"
        "    if model.comm.rank == 0 and model.steps == 20:\n        print(*hosts, flush=True)\n"
    )
    job = subprocess.Popen(
        [*command, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **AS_ROOT, "WENGERT_PARALLEL_TIMEOUT": "3"},
    )
    try:
        assert job.stdout.readline().split() == ["machine1", "machine2"]
        subprocess.run(["ip", "-n", names[0], "link", "set", "cable", "down"], check=True)
        _, told = job.communicate(timeout=100)
    finally:
        job.kill()
    assert job.returncode != 0
    assert "rank 0 of 2 has waited for 3 s: another rank has died, hangs, or cannot be" in told


# ---- fit

FIT = """
import hashlib, json, sys
import numpy as np
import wengert as wg
from wengert import data, nn, optim, parallel, train

comm = parallel.world()


def run_of(directory, shards=4, spread=False, compile=True, **more):
    x, y = data.load_digits()
    wg.manual_seed(0)
    net = nn.MLP([64, 16, 10], dropout=0.1)
    model = parallel.DataParallel(net, shards, comm) if shards else net
    if spread:
        optimizer = parallel.ZeroRedundancyOptimizer(net.parameters(), optim.Adam, comm, lr=0.01)
    else:
        optimizer = optim.Adam(net.parameters(), lr=0.01)
    batches = data.Batches(x[:300], y[:300], 33, seed=3)
    kept = data.Batches(x[300:900], y[300:900])
    settings = dict(epochs=3, accumulate=2, schedule="linear", clip_grad_norm=1.0, ema=0.9,
                    metrics=["f1"], validation=kept, test=(x[900:1400], y[900:1400]))
    result = train.fit(model, wg.cross_entropy, optimizer, batches, compile=compile,
                       run_dir=directory, **settings | more)
    times = {"seconds", "samples_per_second"}
    history = [{k: v for k, v in m.items() if k not in times} for m in result.history]
    bits = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters()))
    found = [history, result.test, bits.hexdigest()]
    assert comm.share(found) == [found] * comm.size
    return found


class Stop(train.Callback):
    def on_epoch_end(self, training):
        training.should_stop = training.epoch == 1


out, found = sys.argv[2], {}
if sys.argv[1] == "whole":
    found = {"whole": run_of(f"{out}/whole"), "eager": run_of(None, compile=False),
             "one": run_of(None, 1), "plain": run_of(None, 0)}
for name, spread in (("replicated", False), ("spread", True)):
    if sys.argv[1] == "begin":
        run_of(f"{out}/{name}", spread=spread, callbacks=[Stop()])
    if sys.argv[1] == "resume":
        found[name] = run_of(f"{out}/{name}", spread=spread,
                             resume=f"{out}/{name}/last.safetensors")
if comm.rank == 0:
    print(json.dumps(found))
"""


@needs_mpi
def test_fit_has_the_bits_of_one_rank_and_resumes_with_any_number(tmp_path):
    script = tmp_path / "fit.py"
    script.write_text(FIT)
    one = printed(alone(script, "whole", tmp_path))
    assert one["whole"] == one["eager"] and one["one"] == one["plain"]
    assert printed(mpiexec(2, script, "begin", tmp_path)) == {}
    assert len((tmp_path / "spread" / "metrics.jsonl").read_text().splitlines()) == 2
    resumed = printed(mpiexec(4, script, "resume", tmp_path))
    assert resumed == {"replicated": one["whole"], "spread": one["whole"]}
    lines = (tmp_path / "spread" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4  # of rank 0 alone


def test_ranks_that_each_train_a_plain_model_into_one_directory_are_told(monkeypatch, tmp_path):
    from wengert.train.directory import claimed

    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    with claimed(tmp_path), pytest.raises(FileExistsError, match=r"where the model is a parallel"):
        claimed(tmp_path).__enter__()
    monkeypatch.setenv("PMI_SIZE", "1")
    with claimed(tmp_path), pytest.raises(FileExistsError, match=r"choose another directory$"):
        claimed(tmp_path).__enter__()


# ---- the command

TRAIN = ("-m", "wengert", "train", "--epochs", 2, "--layers", 8, "--shards", 4, "--dropout", 0.1)


def weights(path):
    return {name: t.numpy().tobytes() for name, t in load_checkpoint(path).model.items()}


@needs_mpi
def test_train_and_predict_under_mpiexec(tmp_path):
    one = alone(*TRAIN, "--out", tmp_path / "one")
    two = mpiexec(2, *TRAIN, "--out", tmp_path / "two", "--log", "csv")
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert "4 shards on 2 ranks, 1 threads each" in two.stdout
    assert two.stdout.count("test accuracy") == two.stdout.count("epoch 2/2 ") == 1
    assert weights(tmp_path / "one/best.safetensors") == weights(tmp_path / "two/best.safetensors")
    assert sorted(p.name for p in (tmp_path / "two").iterdir() if p.suffix != ".png") == [
        ".lock", "best.safetensors", "config.json", "confusion.json", "last.safetensors",
        "metrics.csv", "metrics.jsonl",
    ]  # fmt: skip
    confusion = [(tmp_path / n / "confusion.json").read_text() for n in ("one", "two")]
    assert confusion[0] == confusion[1]
    more = mpiexec(
        4, "-m", "wengert", "train", "--resume", tmp_path / "two/last.safetensors", "--epochs", 3,
        "--quiet",
    )  # fmt: skip
    assert more.returncode == 0 and more.stdout.count("test accuracy") == 1
    commands = ("-m", "wengert", "predict", tmp_path / "one/best.safetensors", "digits")
    assert alone(*commands).stdout == mpiexec(2, *commands).stdout != ""


@needs_mpi
def test_usage_errors_and_info_under_mpiexec(tmp_path):
    done = mpiexec(4, "-m", "wengert", "train", "--shards", 2, "--out", tmp_path / "out")
    assert done.returncode != 0
    text = "--shards 2 on 4 ranks would leave a rank without data; start mpiexec -n 2 or fewer"
    assert done.stderr.count(text) == 1
    done = mpiexec(2, "-m", "wengert", "info", WENGERT_THREADS="99")
    assert done.stdout.count("ranks") == 1
    assert "with 99 threads each" in done.stdout and "is oversubscribed: 198 threads" in done.stdout


def rank_of(job, rank):
    """The process of a rank that the launcher has started."""
    told = f"\0OMPI_COMM_WORLD_RANK={rank}\0".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if told in path.read_bytes() and f"PPid:\t{job.pid}\n" in (
                path.with_name("status").read_text()
            ):
                return int(path.parent.name)
    raise AssertionError(f"no rank {rank}")


@needs_mpi
@pytest.mark.parametrize("end", ["Ctrl-C", "kill -9"])
def test_a_job_that_is_ended_saves_and_goes_on_with_equal_bits(tmp_path, end):
    """Ctrl-C of the launcher saves once; kill -9 of a rank is an error that names it."""
    command = [*TRAIN, "--epochs", 30, "--batch", 128]
    whole = alone(*command, "--out", tmp_path / "whole")
    assert whole.returncode == 0
    job = subprocess.Popen(
        [
            *(parallel.mpiexec(), "-n", "2", sys.executable),
            *map(str, [*command, "--out", tmp_path / "cut"]),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ALLOWED},
    )
    for line in job.stdout:
        if re.match(r"epoch +2/30", line):
            if end == "Ctrl-C":
                job.send_signal(signal.SIGINT)  # it sends SIGTERM, and soon SIGKILL
            else:
                os.kill(rank_of(job, 1), signal.SIGKILL)
    told = job.stderr.read()
    assert job.wait(60) != 0
    assert end == "Ctrl-C" or re.search(r"rank 1.*exited on\s+signal 9 \(Killed\)", told, re.DOTALL)
    at = load_checkpoint(tmp_path / "cut/last.safetensors").extra["fit"]
    assert 2 <= at["epoch"] < 30
    resume = ("-m", "wengert", "train", "--resume", tmp_path / "cut/last.safetensors")
    assert mpiexec(2, *resume).returncode == 0
    assert weights(tmp_path / "cut/last.safetensors") == weights(
        tmp_path / "whole/last.safetensors"
    )


# ---- two machines, of a sort


@pytest.fixture
def two_hosts(tmp_path):
    """mpiexec's arguments for a rank in each of two network namespaces, with 1 Gb/s in between.

    Each has a host name of its own: the launcher takes two addresses of one name for one machine.
    """
    if os.geteuid() or not (shutil.which("ip") and shutil.which("tc") and shutil.which("unshare")):
        pytest.skip("network namespaces need root, and Debian's iproute2")
    name = f"wg{os.getpid()}"
    net = f"10.{os.getpid() // 250 % 250}.{os.getpid() % 250}"
    script = f"""set -e
        for i in 1 2; do ip netns add {name}-$i; done
        ip link add {name}-1 netns {name}-1 type veth peer name {name}-2 netns {name}-2
        for i in 1 2; do
            ip -n {name}-$i addr add {net}.$i/24 dev {name}-$i
            ip -n {name}-$i link set lo up
            ip -n {name}-$i link set {name}-$i up
            ip netns exec {name}-$i tc qdisc add dev {name}-$i root tbf rate 1gbit burst 256kb \
                latency 50ms
        done"""
    agent, hosts = tmp_path / "agent", tmp_path / "hosts"
    agent.write_text(f"""#!/bin/bash
        while [[ $1 == -* ]]; do shift; done
        host={name}-${{1##*.}}; shift
        exec ip netns exec $host unshare -u bash -c "hostname $host; $*"
        """)
    agent.chmod(0o755)
    hosts.write_text(f"{net}.1 slots=1\n{net}.2 slots=1\n")
    try:
        made = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        yield [
            *(agent, "x.1", parallel.mpiexec(), "--hostfile", hosts, "-n", "2"),
            *("--prtemca", "plm", "ssh", "--prtemca", "plm_ssh_agent", agent),
            *("--prtemca", "prte_if_include", f"{net}.0/24", "--bind-to", "none"),
            *("--mca", "pml", "ob1", "--mca", "btl", "self,tcp"),
            *("--mca", "btl_tcp_if_include", f"{net}.0/24"),
        ]
    finally:
        for i in (1, 2):
            subprocess.run(["ip", "netns", "delete", f"{name}-{i}"], capture_output=True)


HOSTS = """
import hashlib, json, socket
import wengert as wg
from wengert import nn, optim, parallel

comm = parallel.world()
wg.manual_seed(0)
net = nn.MLP([64, 512, 512, 512, 512, 512, 10], dropout=0.1)  # 1 MB a layer
model = parallel.DataParallel(net, shards=2, compile=True)
optimizer = optim.Adam(net.parameters())
x, y = wg.randn((64, 64)), wg.randint(0, 10, (64,))
for _ in range(4):
    optimizer.zero_grad()
    model.backward(wg.cross_entropy, x, y)
    optimizer.step()
bits = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters()))
hosts = comm.share(socket.gethostname())
sent = [one.bytes for one in model.sent]
ordered = all(s.started <= s.begun < s.done <= s.waited and s.waits < s.waited for s in model.sent)
if comm.rank == 0:
    print(json.dumps([hosts, sent, ordered, bits.hexdigest()]))
"""


@needs_mpi
def test_two_hosts_have_the_bits_of_one(two_hosts, tmp_path):
    script = tmp_path / "hosts.py"
    script.write_text(HOSTS)
    *_, bits = printed(alone(script))
    done = subprocess.run(
        [*map(str, two_hosts), sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **ALLOWED},
    )
    hosts, sent, ordered, found = printed(done)
    assert len(set(hosts)) == 2
    assert sum(sent) == 4 * (64 * 512 + 4 * 512 * 512 + 512 * 10 + 5 * 512 + 10)
    assert len(sent) == 2 and ordered
    assert found == bits


# ---- the rest


@pytest.mark.skipif("WENGERT_MPICH" not in os.environ, reason="WENGERT_MPICH names no MPICH")
def test_mpich_has_the_same_bits(tmp_path):
    """WENGERT_MPICH: the bin/ of an environment with mpi4py and mpich."""
    script = tmp_path / "bits.py"
    script.write_text(SAME_BITS)
    folder = Path(os.environ["WENGERT_MPICH"])
    command = [folder / "mpiexec", "-n", "2", folder / "python", script]
    env = {**os.environ, "PYTHONPATH": str(Path(wg.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    found, size, *_ = printed(done)
    assert (found, size) == (printed(alone(script))[0], 2)


@needs_mpi
def test_the_check_measures_and_says_what_limits(tmp_path):
    more = ("--seconds", 0.01, "--most", 70000, "--layers", 64, 32, 10)
    done = mpiexec(2, "-m", "wengert.parallel.check", *more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 ranks on ")
    assert re.search(r"^fit: alpha [0-9.]+ us a message, beta of", done.stdout, re.M)
    limits = re.findall(r"^ +(\d+) .* (computation|latency|bandwidth)$", done.stdout, re.M)
    assert [int(ranks) for ranks, _ in limits] == [1, 2, 4, 8, 16, 64, 256, 1024]
    assert limits[0][1] == "computation"
    done = alone("-m", "wengert.parallel.check")
    assert done.returncode == 2 and "mpiexec -n 2 python -m wengert.parallel.check" in done.stderr


def test_the_check_times_the_tree_as_steps_run_it(monkeypatch):
    """On numbers just written, in memory that is kept; both in turn."""
    from wengert.parallel import check

    def rank(comm):
        rooms, seen, by_tree = [], [], check._by_tree(comm)
        reduced = tree.allreduce

        def watched(comm, mine, owners, room):
            def noted(*key):
                rooms.append(room(*key))
                return rooms[-1]

            reduced(comm, mine, owners, noted)

        def fn(x):
            seen.append(x.tolist())
            by_tree(x)
            seen.append(x.tolist())

        with monkeypatch.context() as patch:
            patch.setattr(tree, "allreduce", watched)
            check._seconds(comm, np.empty(3), [fn, comm.all_reduce], 0.001)
        return rooms, seen

    rooms, seen = parallel.Threads.run(1, rank)[0]
    assert len(rooms) > 1 and all(room is rooms[0] for room in rooms)
    assert seen[:4] == [[1.0] * 3] * 4


def test_the_fit_finds_what_it_was_made_of():
    from wengert.parallel.check import SIZES, Fit, fit, limit

    made = Fit(2e-5, 8e-9)  # 1 Gb/s
    found = fit(4, {size: made.allreduce(4, size) for size in SIZES})
    assert found == pytest.approx(made)
    assert fit(4, {size: size * 1e-9 for size in SIZES}).alpha < 1e-15
    assert fit(4, {1024: 1e-6, 4096: 9e-6}).alpha == 0  # not a negative time
    assert fit(4, {size: 1e-3 for size in SIZES}).alpha > 0
    assert [limit(made, *case) for case in ((2, 1e3, 1.0), (1024, 1e3, 1.0), (2, 1e9, 1.0))] == [
        "computation", "latency", "bandwidth",
    ]  # fmt: skip


@needs_mpi
def test_the_example_has_the_same_bits_on_two_ranks():
    example = Path(__file__).parent.parent / "examples" / "distributed" / "digits.py"
    one, two = alone(example), mpiexec(2, example)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert one.stdout.splitlines()[-1] == two.stdout.splitlines()[-1]
    states = [
        [int(n.replace(",", "")) for n in line.split(": ")[1].removesuffix(" bytes").split(", ")]
        for line in (one.stdout.splitlines()[1], two.stdout.splitlines()[1])
    ]
    assert len(states[1]) == 2 and sum(states[1]) == states[0][0]
    assert max(states[1]) - min(states[1]) <= 8  # half of it each
    assert float(re.search(r"accuracy ([0-9.]+)", two.stdout)[1]) > 88
