"""The language model: values against PyTorch's functions, places kept and read again, training."""

from __future__ import annotations

import numpy as np
import pytest

import wengert as wg
from wengert import optim
from wengert.models.gpt import GPT


@pytest.fixture(autouse=True)
def seed() -> None:
    wg.manual_seed(0)


def small() -> GPT:
    model = GPT(vocab=11, width=16, layers=2, heads=4, context=12)
    for p in model.parameters():  # larger than those at the start, so that all count
        with wg.no_grad():
            p.add_(wg.randn(p.shape) * 0.3)
    return model


@pytest.mark.smoke
def test_sizes_and_weights_at_the_start() -> None:
    model = GPT(96)
    assert sum(p.size for p in model.parameters()) == 822_016
    assert {p.ndim for p in model.parameters()} == {1, 2}
    first, last = model.blocks[0].feed_forward[0], model.blocks[0].feed_forward[2]
    assert first.weight.detach().numpy().std() == pytest.approx(0.02, rel=0.05)
    assert last.weight.detach().numpy().std() == pytest.approx(0.02 / 8**0.5, rel=0.05)
    scores = model(wg.zeros((1, 4), dtype="int64"))
    assert scores.shape == (1, 4, 96) and abs(scores.detach().numpy()).max() < 2


def test_values_and_gradients_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    model = small().to("float64")
    w = {
        k: torch.tensor(v.detach().numpy(), requires_grad=True) for k, v in model.named_parameters()
    }
    ids = np.random.default_rng(0).integers(0, 11, (3, 12))
    given = torch.tensor(ids)

    def normed(x, name):
        return f.layer_norm(x, (16,), w[name + ".weight"], w[name + ".bias"])

    def linear(x, name):
        return f.linear(x, w[name + ".weight"], w[name + ".bias"])

    x = w["tokens.weight"][given] + w["places.weight"]
    for i in range(2):
        b = f"blocks.{i}."
        at = b + "attention."
        h = f.linear(normed(x, b + "norm1"), w[at + "in_proj_weight"], w[at + "in_proj_bias"])
        q, k, v = (t.reshape(3, 12, 4, 4).transpose(1, 2) for t in h.split(16, 2))
        h = f.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(h.transpose(1, 2).reshape(3, 12, 16), at + "out_proj")
        h = f.gelu(linear(normed(x, b + "norm2"), b + "feed_forward.0"))
        x = x + linear(h, b + "feed_forward.2")
    wanted = normed(x, "norm") @ w["tokens.weight"].T
    scores = model(wg.tensor(ids))
    np.testing.assert_allclose(scores.detach().numpy(), wanted.detach().numpy(), rtol=1e-10)
    f.cross_entropy(wanted[:, :-1].reshape(-1, 11), given[:, 1:].reshape(-1)).backward()
    target = wg.tensor(ids[:, 1:].reshape(-1))
    wg.cross_entropy(scores[:, :-1].reshape(-1, 11), target).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None
        np.testing.assert_allclose(
            p.grad.numpy(), w[name].grad.numpy(), rtol=1e-8, atol=1e-12, err_msg=name
        )


def test_a_place_sees_none_after_it() -> None:
    model = small().eval()
    ids = wg.randint(0, 11, (2, 12))
    scores = model(ids).detach().numpy()
    ids[:, 7:] = (ids[:, 7:] + 1) % 11
    changed = model(ids).detach().numpy()
    np.testing.assert_array_equal(changed[:, :7], scores[:, :7])
    assert (changed[:, 7:] != scores[:, 7:]).all()


def test_likeliest_tokens_are_those_without_kept_places() -> None:
    model = small().eval()
    ids = wg.randint(0, 11, (3, 5))
    made = model.generate(ids, 30, temperature=0)
    read, first = ids, 0  # what is seen begins at `first`
    with wg.no_grad():
        for _ in range(30):
            if read.shape[1] - first > model.context:
                first = read.shape[1] - model.context // 2
            following = model(read[:, first:])[:, -1].argmax(1, keepdims=True)
            read = wg.concatenate([read, following], 1)
    assert made.tolist() == read.tolist() and made.shape == (3, 35)
    long = wg.randint(0, 11, (1, 40))  # longer than the context: its end is read
    assert model.generate(long, 2, 0).tolist()[0][:40] == long.tolist()[0]


def test_drawing() -> None:
    model = small().eval()
    ids = wg.randint(0, 11, (2000, 3))
    with wg.no_grad():
        shares = wg.softmax(model(ids[:1])[0, -1] / 0.7, 0).numpy()
    ids = ids[:1].broadcast_to((2000, 3))
    drawn = model.generate(ids, 1, 0.7, generator=wg.Generator(1))[:, -1].numpy()
    assert abs(np.bincount(drawn, minlength=11) / 2000 - shares).max() < 0.04
    few = model.generate(ids, 1, 0.7, top_k=3)[:, -1].numpy()
    assert set(few.tolist()) == set(np.argsort(-shares)[:3].tolist())
    same = [model.generate(ids[:4], 9, generator=wg.Generator(5)).tolist() for _ in range(2)]
    assert same[0] == same[1]
    assert model.generate(ids[:1], 1, top_k=1).tolist() == model.generate(ids[:1], 1, 0).tolist()
    assert model.generate(ids[:1], 0).tolist() == ids[:1].tolist()


def test_bad_input() -> None:
    model = small()
    with pytest.raises(wg.ShapeError, match="got 13 places; its context has 12"):
        model(wg.zeros((1, 13), dtype="int64"))
    for shape in ((3,), (1, 0)):
        with pytest.raises(wg.ShapeError, match="generate: ids have shape"):
            model.generate(wg.zeros(shape, dtype="int64"), 1)
    ids = wg.zeros((1, 1), dtype="int64")
    for bad in ({"count": -1}, {"count": 1, "temperature": -1.0}, {"count": 1, "top_k": 0}):
        with pytest.raises(ValueError, match="generate: count is"):
            model.generate(ids, **bad)
    with pytest.raises(IndexError, match="11"):
        model(ids + 11)


def test_it_learns_in_compiled_steps_as_in_eager_ones() -> None:
    ids = wg.tensor(np.arange(13)[None] % 5 + np.arange(5)[:, None])
    ended = []
    for compiled in (False, True):
        wg.manual_seed(1)
        model = GPT(vocab=11, width=16, layers=1, heads=2, context=12, dropout=0.1)
        optimizer = optim.AdamW(model.parameters(), lr=0.02)

        def step(ids: wg.Tensor, model: GPT = model, optimizer: optim.AdamW = optimizer):
            optimizer.zero_grad()
            scores = model(ids[:, :-1]).reshape(-1, 11)
            loss = wg.cross_entropy(scores, ids[:, 1:].reshape(-1))
            loss.backward()
            optimizer.step()
            return loss

        run = wg.compile(step) if compiled else step
        losses = [run(ids).item() for _ in range(80)]
        assert losses[-1] < 0.2 * losses[0]
        ended.append([p.tolist() for p in model.parameters()])
    assert ended[0] == ended[1]
    made = model.eval().generate(ids[:1, :6], 6, temperature=0)
    assert made.tolist() == ids[:1, :12].tolist()
