"""Attention in blocks: sizes beyond a block against the plain composition, masks, rows that may
look at nothing, second gradients, memory, and equal bits whatever the threads and the place in a
batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rows import attention

import wengert as wg
from wengert.testing import gradcheck


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("queries", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("keys", [1, 255, 256, 257, 600])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks(queries: int, keys: int, causal: bool) -> None:
    q, k, v = draw(0, 2, queries, 8), draw(1, 2, keys, 8), draw(2, 2, keys, 5)
    g = draw(3, 2, queries, 5)
    results = []
    for dtype in ("float32", "float64"):
        leaves = [wg.tensor(x, dtype=dtype, requires_grad=True) for x in (q, k, v)]
        y = wg.scaled_dot_product_attention(*leaves, is_causal=causal)
        plain = wg.attention_weights(*leaves[:2], is_causal=causal) @ leaves[2]
        for form in (y, plain):
            grads = wg.grad(form, leaves, wg.tensor(g, dtype=dtype))
            results.append([form.detach().numpy(), *(d.numpy() for d in grads)])
    exact = attention(*(x.astype(float) for x in (q, k, v)), causal=causal)
    assert np.abs(results[2][0] - exact).max() < 1e-12
    for result in results:
        for found, right in zip(result, results[3], strict=True):
            eps = 1e-12 if found.dtype == np.float64 else 4e-6
            assert np.abs(found - right).max() <= eps * max(np.abs(right).max(), 1)


@pytest.mark.smoke
def test_a_query_that_may_look_at_nothing_gets_zeros() -> None:
    mask = np.ones((4, 300), bool)
    mask[1] = False
    for form in (wg.tensor(mask), wg.tensor(np.where(mask, 0, -np.inf).astype("float32"))):
        leaves = [wg.tensor(draw(i, n, 6), requires_grad=True) for i, n in enumerate((4, 300, 300))]
        y = wg.scaled_dot_product_attention(*leaves, form)
        assert (y.detach().numpy()[1] == 0).all() and np.isfinite(y.detach().numpy()).all()
        (g,) = wg.grad((y * y).sum(), leaves[:1], create_graph=True)
        assert (g.detach().numpy()[1] == 0).all() and np.isfinite(g.detach().numpy()).all()
        again = wg.grad(g.square().sum(), leaves)
        assert all(np.isfinite(d.numpy()).all() for d in again)
        assert (wg.attention_weights(*leaves[:2], form).detach().numpy()[1] == 0).all()


def test_masked_values_do_not_matter() -> None:
    q, k, v = draw(0, 5, 4), draw(1, 7, 4), draw(2, 7, 3)
    mask = np.arange(7) < 4
    short = wg.scaled_dot_product_attention(wg.tensor(q), wg.tensor(k[:4]), wg.tensor(v[:4]))
    k[4:] = 1e30
    y = wg.scaled_dot_product_attention(
        wg.tensor(q), wg.tensor(k), wg.tensor(v), wg.tensor(mask[None])
    )
    assert np.allclose(y.numpy(), short.numpy(), atol=1e-6)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("how", ["bool", "added", "causal"])
@pytest.mark.parametrize("keys", [7, 600])
def test_junk_in_masked_keys_and_values_adds_nothing(keys: int, how: str, junk: float) -> None:
    """Neither to the result nor to a gradient: all bits are those of zeros in its place."""
    queries = 5 if how != "causal" else keys - 3
    seen = np.ones((queries, keys), bool)
    seen[:, keys - 3 :] = False
    seen[1] = False
    mask = {
        "bool": wg.tensor(seen),
        "added": wg.tensor(np.where(seen, 0, -np.inf).astype("float32")),
        "causal": None,
    }[how]
    results = []
    for fill in (0.0, junk):
        q, k, v = draw(0, 2, queries, 4), draw(1, 2, keys, 4), draw(2, 2, keys, 3)
        k[:, keys - 3 :] = v[:, keys - 3 :] = fill
        if how != "causal":
            q[:, 1] = fill  # a query that sees no key
        for create_graph in (False, True):
            leaves = [wg.tensor(x, requires_grad=True) for x in (q, k, v)]
            y = wg.scaled_dot_product_attention(*leaves, mask, is_causal=how == "causal")
            grads = wg.grad((y * y).sum(), leaves, create_graph=create_graph)
            results.append([t.detach().numpy() for t in (y, *grads)])
    for clean, spoilt in zip(results[:2], results[2:], strict=True):
        for a, b in zip(clean, spoilt, strict=True):
            assert np.isfinite(a).all()
            np.testing.assert_array_equal(a, b)
    weights = wg.attention_weights(wg.tensor(q), wg.tensor(k), mask, is_causal=how == "causal")
    assert (weights[..., keys - 3 :] == 0).all().item()


def test_junk_in_a_value_reaches_the_queries_that_see_it() -> None:
    v = draw(2, 7, 3)
    v[3] = np.nan
    q, k = draw(0, 7, 4), draw(1, 7, 4)
    y = wg.scaled_dot_product_attention(*map(wg.tensor, (q, k, v)), is_causal=True).numpy()
    assert np.isfinite(y[:3]).all() and np.isnan(y[3:]).all()


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("create_graph", [False, True])
def test_junk_that_causality_hides_from_some_queries(which: int, create_graph: bool) -> None:
    """Row 3 of k or v: queries 0 to 2 do not see it, the others do."""
    given = [draw(i, 7, 4) for i in range(3)]
    results = []
    for fill in (0.0, np.nan):
        given[which][3] = fill
        leaves = [wg.tensor(x, requires_grad=True) for x in given]
        y = wg.scaled_dot_product_attention(*leaves, is_causal=True)
        (g,) = wg.grad((y * y).sum(), leaves[:1], create_graph=create_graph)
        results.append([y.detach().numpy(), g.detach().numpy()])
    for clean, spoilt in zip(*results, strict=True):
        np.testing.assert_array_equal(clean[:3], spoilt[:3])
        assert np.isnan(spoilt[3:]).any(axis=1).all()


def test_nan_reaches_its_row_alone() -> None:
    q = draw(0, 5, 4)
    q[2, 1] = np.nan
    y = wg.scaled_dot_product_attention(*map(wg.tensor, (q, draw(1, 7, 4), draw(2, 7, 3)))).numpy()
    assert np.isnan(y[2]).all() and np.isfinite(np.delete(y, 2, 0)).all()


def test_a_trained_mask_and_second_gradients() -> None:
    q, k, v = (wg.tensor(draw(i, 2, 3, 4), dtype="float64") for i in range(3))
    bias = wg.tensor(draw(3, 3, 3), dtype="float64")
    for causal in (False, True):
        gradcheck(
            lambda *x, causal=causal: wg.scaled_dot_product_attention(*x, is_causal=causal),
            (q, k, v, bias),
            order=2,
        )


def test_scale() -> None:
    q, k, v = (wg.tensor(draw(i, 3, 4)) for i in range(3))
    y = wg.scaled_dot_product_attention(q, k, v, scale=0.3)
    assert np.allclose(y.numpy(), (wg.softmax(q @ k.T * 0.3) @ v).numpy(), atol=1e-6)


def test_same_bits_for_any_threads_and_place_in_a_batch() -> None:
    def run(batch: slice) -> list[Any]:
        arrays = [draw(i, 3, 2, n, 8)[batch] for i, n in enumerate((150, 300, 300))]
        leaves = [wg.tensor(x, requires_grad=True) for x in arrays]
        y = wg.scaled_dot_product_attention(*leaves)
        return [y.detach().numpy(), *(d.numpy() for d in wg.grad(y.square().sum(), leaves))]

    threads = wg.num_threads()
    try:
        found = []
        for n in (1, 2, 5):
            wg.set_num_threads(n)
            found.append(run(slice(None)))
    finally:
        wg.set_num_threads(threads)
    for other in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0], other, strict=True))
    assert all((a[1:2] == b).all() for a, b in zip(found[0], run(slice(1, 2)), strict=True))


def test_the_scores_are_never_held() -> None:
    """4 heads of 2048 tokens: 67 MB of scores; forward and backward take less than a quarter."""
    leaves = [wg.tensor(draw(i, 4, 2048, 8), requires_grad=True) for i in range(3)]
    before = wg.memory_allocated()
    wg.reset_memory_peak()
    wg.scaled_dot_product_attention(*leaves).square().sum().backward()
    assert wg.memory_peak() - before < 16e6


@pytest.mark.parametrize(
    ("shapes", "mask", "says"),
    [
        (((3, 4), (5, 3), (5, 2)), None, "do not fit"),
        (((3, 4), (5, 4), (6, 2)), None, "do not fit"),
        (((4,), (5, 4), (5, 2)), None, "two axes"),
        (((2, 3, 4), (3, 5, 4), (5, 2)), None, "broadcast"),
        (((3, 4), (5, 4), (5, 2)), (3, 4), "attn_mask"),
    ],
)
@pytest.mark.smoke
def test_shapes_that_do_not_fit(shapes: Any, mask: Any, says: str) -> None:
    q, k, v = (wg.zeros(s) for s in shapes)
    with pytest.raises(wg.ShapeError, match=says):
        wg.scaled_dot_product_attention(q, k, v, None if mask is None else wg.zeros(mask))


@pytest.mark.smoke
def test_dtypes_that_do_not_fit() -> None:
    x = wg.zeros((2, 3))
    with pytest.raises(wg.DTypeError, match="one floating dtype"):
        wg.scaled_dot_product_attention(x, x.double(), x)
    with pytest.raises(wg.DTypeError, match="mask != 0"):
        wg.scaled_dot_product_attention(x, x, x, wg.zeros((2, 2), "int64"))


# ---- its neighbours: embedding, one_hot, layer_norm, pad, split, einsum ----


def test_embedding_gathers_what_comes_for_a_row_in_float64() -> None:
    table = wg.zeros((3, 2)).requires_grad_()
    g = np.full((100_001, 2), 1e-3, "float32")
    g[0] = 1e4
    (dtable,) = wg.grad(wg.embedding(wg.ones(100_001, "int64"), table), [table], wg.tensor(g))
    assert np.allclose(dtable.numpy()[1], g.astype(float).sum(0), rtol=1e-7)
    assert (dtable.numpy()[[0, 2]] == 0).all()


@pytest.mark.parametrize("bad", [-1, 4])
def test_ids_out_of_range(bad: int) -> None:
    with pytest.raises(IndexError, match=rf"embedding: id {bad}.*0 to 3"):
        wg.embedding(wg.tensor([0, bad]), wg.zeros((4, 2)))
    with pytest.raises(IndexError, match=rf"one_hot: id {bad}"):
        wg.one_hot(wg.tensor([0, bad]), 4)


def test_padding_idx_gets_no_gradient() -> None:
    table = wg.tensor(draw(0, 4, 2), requires_grad=True)
    y = wg.embedding(wg.tensor([[1, 3], [3, 0]]), table, padding_idx=-1)
    (g,) = wg.grad(y.square().sum(), [table], create_graph=True)
    assert (g.detach().numpy()[3] == 0).all() and (g.detach().numpy()[1] != 0).all()
    (again,) = wg.grad(g.square().sum(), [table])
    assert np.allclose(again.numpy()[[0, 1]], 8 * table.detach().numpy()[[0, 1]])
    assert (again.numpy()[3] == 0).all()


def test_layer_norm_of_large_numbers() -> None:
    x = draw(0, 4, 300) + 1e4
    wide = x.astype(float)
    right = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    assert np.abs(wg.layer_norm(wg.tensor(x), 300).numpy() - right).max() < 2e-3
    constant = wg.layer_norm(wg.full((2, 7), 3.0), (7,)).numpy()
    assert (constant == 0).all()


def test_layer_norm_over_two_axes() -> None:
    x, w, b = draw(0, 2, 3, 4), draw(1, 3, 4), draw(2, 3, 4)
    y = wg.layer_norm(wg.tensor(x), (3, 4), wg.tensor(w), wg.tensor(b)).numpy()
    flat = x.reshape(2, 12)
    right = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
    assert np.allclose(y, right.reshape(2, 3, 4) * w + b, atol=1e-5)


def test_errors_of_the_neighbours() -> None:
    x = wg.zeros((2, 3))
    with pytest.raises(wg.ShapeError, match="normalized_shape"):
        wg.layer_norm(x, 4)
    with pytest.raises(wg.ShapeError, match="add up to 3"):
        x.split([1, 1], 1)
    with pytest.raises(ValueError, match="pad_width"):
        wg.pad(x, ((1, 1),))
    with pytest.raises(ValueError, match="does not name the axes"):
        wg.einsum("i->i", x)
    with pytest.raises(wg.ShapeError, match="'j' has size 3"):
        wg.einsum("ij,jk->ik", x, x)
    with pytest.raises(ValueError, match="speaks of 2 operands"):
        wg.einsum("ij,jk->ik", x)
    with pytest.raises(ValueError, match="result's letters"):
        wg.einsum("ij->ik", x)
    with pytest.raises(wg.ShapeError, match="as many axes"):
        x.gather(0, wg.zeros(2, "int64"))


# ---- grouped queries and dropout


def test_grouped_queries_are_those_of_repeated_heads() -> None:
    shapes = ((2, 6, 5, 4), (2, 2, 7, 4), (2, 3, 7, 3))
    q, k, v = (wg.tensor(draw(i, *s), requires_grad=True) for i, s in enumerate(shapes))
    y = wg.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    heads = k.repeat_interleave(3, 1), v.repeat_interleave(2, 1)
    plain = wg.scaled_dot_product_attention(q, *heads, is_causal=True)
    assert wg.array_equal(y, plain)
    for got, expected in zip(
        wg.grad(y.square().sum(), [q, k, v]), wg.grad(plain.square().sum(), [q, k, v]), strict=True
    ):
        assert wg.array_equal(got, expected)
    torch = pytest.importorskip("torch")
    given = [torch.tensor(x.detach().numpy()) for x in (q, k, wg.tensor(draw(2, 2, 2, 7, 3)))]
    theirs = torch.nn.functional.scaled_dot_product_attention(*given, enable_gqa=True)
    ours = wg.scaled_dot_product_attention(*map(wg.tensor, map(np.asarray, given)), enable_gqa=True)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_dropout_of_the_weights() -> None:
    q, k = wg.tensor(draw(0, 3, 4)), wg.tensor(draw(1, 50, 4))
    whole = wg.scaled_dot_product_attention(q, k, wg.eye(50, dtype=q.dtype))
    dropped = wg.scaled_dot_product_attention(
        q, k, wg.eye(50, dtype=q.dtype), dropout_p=0.5, generator=wg.Generator(1)
    )
    kept = dropped != 0
    assert 50 < kept.sum().item() < 100
    np.testing.assert_allclose(dropped[kept].numpy(), 2 * whole[kept].numpy(), rtol=1e-5)
    assert (wg.scaled_dot_product_attention(q, k, k, dropout_p=1.0) == 0).all()


def test_what_grouped_queries_refuse() -> None:
    x = wg.ones((3, 4, 5))
    with pytest.raises(ValueError, match=r"dropout_p is True; .* write is_causal=True"):
        wg.scaled_dot_product_attention(x, x, x, None, True)
    with pytest.raises(wg.ShapeError, match=r"enable_gqa: query, key, value have shapes \(3, 4, 5"):
        wg.scaled_dot_product_attention(x, x[:2], x[:2], enable_gqa=True)
    with pytest.raises(wg.ShapeError, match="expected three axes or more"):
        wg.scaled_dot_product_attention(x[0], x[0], x[0], enable_gqa=True)
