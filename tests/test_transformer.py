"""MultiheadAttention and the Transformer's layers compared with PyTorch's of the same state."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.testing import assert_close

N, L, S, E, H = 2, 4, 5, 6, 3


def make(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """A module and PyTorch's, with equal parameters."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*args, **options).double()
    ours = getattr(nn, name)(*args, **options).double()
    given = {k: v.numpy() for k, v in theirs.state_dict().items()}
    rng = np.random.default_rng(0)
    given = {k: rng.normal(0, 0.5, v.shape) for k, v in given.items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in given.items()
    }
    theirs.load_state_dict({k: torch.tensor(v) for k, v in given.items()})
    ours.load_state_dict(given)
    return ours, theirs


def compare(ours: Any, theirs: Any, inputs: list[Any], named: dict[str, Any]) -> None:
    """Values, gradients of inputs and parameters, and compiled the bits of eager."""
    import torch

    def run(library: Any, module: Any) -> tuple[list[Any], list[Any]]:
        xs = [library.tensor(x) for x in inputs]
        for x in xs:
            x.requires_grad_()
        more = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in named.items()}
        y = module(*xs, **more)
        values = [v for v in (y if isinstance(y, tuple) else [y]) if v is not None]
        total = sum((v * v * v).sum() for v in values)
        leaves = [*xs, *(p for _, p in sorted(module.named_parameters()))]
        grad = wg.grad if library is wg else library.autograd.grad
        return values, list(grad(total, leaves))

    mine, other = run(wg, ours), run(torch, theirs)
    assert len(mine[0]) == len(other[0])
    for a, b in zip(mine[0], other[0], strict=True):
        assert_close(a, b.detach().numpy(), 1e-9, 1e-9)
    for a, b in zip(mine[1], other[1], strict=True):
        assert_close(a, b.detach().numpy(), 1e-8, 1e-8)

    def step(*xs: wg.Tensor) -> tuple[wg.Tensor, ...]:
        more = {k: wg.tensor(v) if isinstance(v, np.ndarray) else v for k, v in named.items()}
        y = ours(*xs, **more)
        y = y if isinstance(y, tuple) else (y,)
        total = sum((v * v).sum() for v in y if v is not None)
        return (y[0], *wg.grad(total, list(ours.parameters())))

    compiled = wg.compile(step)
    for shift in range(3):
        xs = [wg.tensor(x + 0.1 * shift) for x in inputs]
        for a, b in zip(compiled(*xs), step(*xs), strict=True):
            assert np.array_equal(a.detach().numpy(), b.detach().numpy())


RNG = np.random.default_rng(1)
CAUSAL = np.triu(np.ones((L, S), bool), 1)
PADDING = np.array([[False] * S, [False, True, False, True, True]])
MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "causal": {"attn_mask": CAUSAL},
    "added": {"attn_mask": RNG.normal(size=(L, S))},
    "of each head": {"attn_mask": RNG.random((N * H, L, S)) > 0.8},
    "padding": {"key_padding_mask": PADDING},
    "added padding": {"key_padding_mask": np.where(PADDING, -1.5, 0.0)},
    "both": {"attn_mask": CAUSAL, "key_padding_mask": PADDING},
    "bool and added": {"attn_mask": CAUSAL, "key_padding_mask": PADDING * -2.0},
    "added and bool": {"attn_mask": RNG.normal(size=(L, S)), "key_padding_mask": PADDING},
    "both kinds": {
        "attn_mask": np.where(CAUSAL, -np.inf, 0.5), "key_padding_mask": PADDING * -2.0
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*mismatched")
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(mask, need_weights) -> None:
    ours, theirs = make("MultiheadAttention", E, H, batch_first=True)
    q, k, v = (np.random.default_rng(i).normal(size=(N, n, E)) for i, n in enumerate((L, S, S)))
    compare(ours, theirs, [q, k, v], {**MASKS[mask], "need_weights": need_weights})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"kdim": 4, "vdim": 7},
        {"kdim": 4, "vdim": 7, "bias": False},
        {"add_bias_kv": True},
        {"add_zero_attn": True},
        {"add_bias_kv": True, "add_zero_attn": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [True, False])
def test_options(options, batch) -> None:
    rng = np.random.default_rng(2)
    ours, theirs = make("MultiheadAttention", E, H, **options)
    sizes = ((L, E), (S, options.get("kdim", E)), (S, options.get("vdim", E)))
    inputs = [rng.normal(size=(n, N, e) if batch else (n, e)) for n, e in sizes]
    compare(ours, theirs, inputs, {"average_attn_weights": False})
    compare(ours, theirs, inputs, {"attn_mask": CAUSAL, "need_weights": False})
    if batch:
        compare(ours, theirs, inputs, {"key_padding_mask": PADDING * -2.0})
        xs = [wg.tensor(x) for x in inputs]
        causal, _ = ours(*xs, attn_mask=wg.tensor(CAUSAL))
        assert_close(ours(*xs, is_causal=True)[0], causal.detach().numpy(), 1e-12)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_cached_keys_and_grouped_heads(kv_heads: int, batch_first: bool) -> None:
    """Place after place with a cache is all at once; each head of the keys serves several."""
    layer = nn.MultiheadAttention(
        8, 4, batch_first=batch_first, num_kv_heads=kv_heads, dtype="float64",
        generator=wg.Generator(0),
    )  # fmt: skip
    axis = 1 if batch_first else 0
    x = wg.randn((3, 5, 8), "float64", generator=wg.Generator(1))

    def gradients(y: wg.Tensor) -> list[wg.Tensor]:
        return [y, *wg.grad((y * y).sum(), list(layer.parameters()))]

    whole, weights = layer(x, x, x, is_causal=True, average_attn_weights=False)
    expected = gradients(whole)
    for cuts in ([1] * x.shape[axis], [2, 1, x.shape[axis] - 3], [x.shape[axis]]):
        cache, ys = nn.KeyValueCache(), []
        for part in x.split([c for c in cuts if c], axis):
            y, w = layer(part, part, part, is_causal=True, average_attn_weights=False, cache=cache)
            ys.append(y)
            seen = len(cache)
            assert_close(
                w, weights[:, :, seen - y.shape[axis] : seen, :seen].detach().numpy(), 1e-12
            )
            y, _ = layer(part, part, part, need_weights=False, cache=nn.KeyValueCache())
        assert len(cache) == x.shape[axis]
        for a, b in zip(gradients(wg.concatenate(ys, axis)), expected, strict=True):
            assert_close(a, b.detach().numpy(), 1e-10, 1e-12)
    # As of a layer whose keys' heads are repeated.
    e, kept = 8, 2 * kv_heads
    other = nn.MultiheadAttention(8, 4, batch_first=batch_first, dtype="float64")
    rows = [*range(e)]
    rows += [start + 2 * (h * kv_heads // 4) + i for start in (e, e + kept) for h in range(4)
             for i in range(2)]  # fmt: skip
    state = layer.state_dict()
    state["in_proj_weight"] = state["in_proj_weight"][rows]
    state["in_proj_bias"] = state["in_proj_bias"][rows]
    other.load_state_dict(state)
    assert_close(other(x, x, x, is_causal=True)[0], whole.detach().numpy(), 1e-12)


def test_a_cache_that_does_not_fit() -> None:
    layer, cache = nn.MultiheadAttention(4, 2), nn.KeyValueCache()
    x = wg.ones((1, 3, 4))
    layer(x, x, x, cache=cache)
    with pytest.raises(
        ValueError, match=r"holds keys of shape \(3, 2, 1, 2\), and gets \(2, 2, 1, 2\)"
    ):
        layer(x[:, :2], x[:, :2], x[:, :2], cache=cache)
    assert len(cache) == 1
    with pytest.raises(ValueError, match=r"key_padding_mask has shape \(3, 1\); expected \(3, 2\)"):
        layer(x, x, x, key_padding_mask=wg.ones((3, 1)) > 0, cache=cache)
    assert len(cache) == 1
    biased = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    with pytest.raises(ValueError, match="no place for add_bias_kv"):
        biased(x, x, x, cache=nn.KeyValueCache())
    with pytest.raises(ValueError, match="num_kv_heads is 3; expected a divisor of num_heads, 4"):
        nn.MultiheadAttention(8, 4, num_kv_heads=3)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.filterwarnings("ignore:.*nested")
def test_encoder_and_decoder(batch_first, activation, norm_first) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    args = (E, H, 8, 0.0, activation, 1e-5, batch_first, norm_first)
    src = rng.normal(size=(N, S, E) if batch_first else (S, N, E))
    tgt = rng.normal(size=(N, L, E) if batch_first else (L, N, E))
    masks = {"src_mask": np.triu(np.ones((S, S), bool), 1), "src_key_padding_mask": PADDING}
    compare(*make("TransformerEncoderLayer", *args), [src], masks)
    more = {
        "tgt_mask": np.triu(np.ones((L, L), bool), 1), "memory_mask": CAUSAL,
        "memory_key_padding_mask": PADDING, "tgt_key_padding_mask": np.zeros((N, L), bool),
    }  # fmt: skip
    compare(*make("TransformerDecoderLayer", *args), [tgt, src], more)

    def stack(library: Any, kind: str) -> Any:
        layer = getattr(library, f"Transformer{kind}Layer")(*args)
        return getattr(library, f"Transformer{kind}")(layer, 2, library.LayerNorm(E)).double()

    for kind, inputs, named in (("Encoder", [src], {}), ("Decoder", [tgt, src], more)):
        ours, theirs = stack(nn, kind), stack(torch.nn, kind)
        assert ours.layers[0].linear1.weight is not ours.layers[1].linear1.weight
        ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
        compare(ours, theirs, inputs, named)


@pytest.mark.filterwarnings("ignore:.*nested")
def test_transformer() -> None:
    rng = np.random.default_rng(4)
    ours, theirs = make("Transformer", E, H, 1, 2, 8, 0.0, batch_first=True)
    src, tgt = rng.normal(size=(N, S, E)), rng.normal(size=(N, L, E))
    mask = nn.Transformer.generate_square_subsequent_mask(L)
    assert mask.tolist() == np.where(np.triu(np.ones((L, L)), 1), -np.inf, 0.0).tolist()
    compare(ours, theirs, [src, tgt], {"tgt_mask": mask.double().numpy()})


def test_dropout_and_causal() -> None:
    x = wg.tensor(np.random.default_rng(0).normal(size=(N, L, E)))
    layer = nn.TransformerEncoderLayer(E, H, 8, 0.5, batch_first=True, dtype="float64")
    assert not np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())
    layer.eval()
    assert np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())
    attention = nn.MultiheadAttention(
        E, H, 0.5, batch_first=True, dtype="float64", generator=wg.Generator(0)
    )
    _, weights = attention(x, x, x, average_attn_weights=False)
    found = weights.detach().numpy()
    _, weights = attention.eval()(x, x, x, average_attn_weights=False)
    kept = found != 0
    assert 0.2 < kept.mean() < 0.8
    assert_close(wg.tensor(found[kept]), weights.detach().numpy()[kept] * 2, 1e-12)
    mask = wg.tensor(np.triu(np.ones((L, L), bool), 1))
    y, _ = attention(x, x, x, attn_mask=mask)
    assert_close(attention(x, x, x, is_causal=True)[0], y.detach().numpy(), 1e-12)
    # A query that may look at nothing gets what a value of zeros gives, and no NaN.
    y, weights = attention(x, x, x, key_padding_mask=wg.ones((N, L), "bool"))
    assert weights.tolist() == np.zeros((N, L, L)).tolist()
    assert_close(y, np.broadcast_to(attention.out_proj.bias.detach().numpy(), (N, L, E)), 0, 1e-15)
    twin = copy.deepcopy(attention)
    assert twin.out_proj.weight is not attention.out_proj.weight


ERRORS = [
    (lambda x: nn.MultiheadAttention(5, 2), "embed_dim 5 cannot be 2 heads"),
    (lambda x: nn.MultiheadAttention(4, 2)(x, x, x[0]), r"value has shape \(2, 4\) and query"),
    (
        lambda x: nn.MultiheadAttention(4, 2)(x, x, x, attn_mask=wg.ones((2, 2), "bool")),
        r"attn_mask has shape \(2, 2\); expected \(3, 3\) or \(4, 3, 3\)",
    ),
    (
        lambda x: nn.MultiheadAttention(4, 2)(x, x, x, key_padding_mask=wg.ones((3, 2), "bool")),
        r"key_padding_mask has shape \(3, 2\); expected \(2, 3\)",
    ),
    (lambda x: nn.TransformerEncoderLayer(4, 2, activation="swish"), "activation .*swish.*relu"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, text = ERRORS[case]
    with pytest.raises(ValueError, match=text):
        call(wg.ones((3, 2, 4)))
