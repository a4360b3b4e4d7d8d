"""MultiheadAttention and the layers of the Transformer; names, arguments, masks and state are
PyTorch's (dropout's random numbers are not).

Masks: bool, True where a key is *not* looked at, or floating, added to the scores. A query that may
look at no key gets zeros. Vaswani et al. 2017, arXiv 1706.03762.
"""

# ruff: noqa: D102, D107 - a layer's formula and arguments are explained at its class

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from .. import _core, _explained, functional
from .._calls import choice
from .._core import ShapeError, Tensor
from ..random import Generator
from . import init
from .containers import ModuleList
from .layers import Dropout, Linear
from .module import Module, Parameter
from .norms import LayerNorm

__all__ = [
    "KeyValueCache",
    "MultiheadAttention",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]


class KeyValueCache:
    """Keys and values of the places that an attention has seen, for those that come after.

        cache = nn.KeyValueCache()
        for token in tokens:  # (n, 1, embed_dim) each
            y, _ = attention(token, token, token, need_weights=False, is_causal=True, cache=cache)

    One for each layer. keys and values are (n, heads, places, width); len(cache) is the places.
    They keep their history: without `wengert.no_grad()` gradients pass to earlier places.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def __len__(self) -> int:
        """Places."""
        return 0 if self.keys is None else self.keys.shape[2]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds places; all keys and all values. ShapeError for others than those before."""
        if self.keys is not None and self.values is not None:
            for name, have, more in (("keys", self.keys, keys), ("values", self.values, values)):
                if (have.shape[:2], have.shape[3]) != (more.shape[:2], more.shape[3]):
                    raise ShapeError(
                        f"KeyValueCache: it holds {name} of shape {have.shape}, and gets "
                        f"{more.shape}; all axes but the third must be equal: use another cache "
                        "for another layer or batch"
                    )
            keys = _core.concatenate([self.keys, keys], 2)
            values = _core.concatenate([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values


class MultiheadAttention(Module):
    """Attention of num_heads parts of the projected axis: query (L, n, embed_dim), key (S, n, kdim)
    and value (S, n, vdim), with batch_first (n, L, ...), or without n, to (output, weights).

    output has query's shape; weights is (n, L, S), the mean over the heads (without
    average_attn_weights (n, num_heads, L, S)), or None without need_weights, which is faster.
    attn_mask is (L, S) or (n · num_heads, L, S), key_padding_mask (n, S). is_causal without
    attn_mask: query i looks at keys 0 to i. dropout is that of the weights, in training.
    add_bias_kv adds one key and value that are trained, add_zero_attn one of zeros; all queries
    look at these. num_kv_heads: keys and values have fewer heads, each for several of the query's
    (arXiv 2305.13245). With a `cache`, key and value follow what it holds, which is added to: S is
    all of them, and is_causal counts the queries as the last places.
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = None,
        generator: Generator | None = None,
        num_kv_heads: int | None = None,
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim {embed_dim} cannot be {num_heads} heads of one size"
            )
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if self.num_kv_heads < 1 or num_heads % self.num_kv_heads:
            raise ValueError(
                f"MultiheadAttention: num_kv_heads is {num_kv_heads}; expected a divisor of "
                f"num_heads, {num_heads}"
            )
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.generator = dropout, generator
        self.add_zero_attn = add_zero_attn

        def weight(rows: int, columns: int) -> Parameter:
            made = _core.empty((rows, columns), dtype)
            return Parameter(init.xavier_uniform_(made, generator=generator))

        kept = embed_dim // num_heads * self.num_kv_heads
        self._widths = [embed_dim, kept, kept]
        self.in_proj_weight = None
        if (self.kdim, self.vdim) == (embed_dim, embed_dim):
            self.in_proj_weight = weight(sum(self._widths), embed_dim)
        else:
            self.q_proj_weight = weight(embed_dim, embed_dim)
            self.k_proj_weight = weight(kept, self.kdim)
            self.v_proj_weight = weight(kept, self.vdim)
        self.in_proj_bias = Parameter(_core.zeros((sum(self._widths),), dtype)) if bias else None
        self.bias_k: Parameter | None = None
        self.bias_v: Parameter | None = None
        if add_bias_kv:
            shape = (1, 1, kept)
            k, v = (init.xavier_normal_(_core.empty(shape, dtype), 1, generator) for _ in "kv")
            self.bias_k, self.bias_v = Parameter(k), Parameter(v)
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype, generator)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        widths = self._widths
        bias = self.in_proj_bias
        if self.in_proj_weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        elif query is key and key is value:  # one product
            return _core.linear(query, self.in_proj_weight, bias).split(widths, -1)
        else:
            weights = self.in_proj_weight.split(widths)  # type: ignore[assignment]
        biases = [None] * 3 if bias is None else bias.split(widths)
        given = (query, key, value)
        return [_core.linear(*of) for of in zip(given, weights, biases, strict=True)]

    def _mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, n: int, length: int, keys: int
    ) -> Tensor | None:
        """One mask that broadcasts to (n, heads, L, S): bool, True where looked at, or added."""
        heads = self.num_heads
        masks = []
        if attn_mask is not None:
            if attn_mask.shape == (n * heads, length, keys):
                attn_mask = attn_mask.reshape(n, heads, length, keys)
            elif attn_mask.shape != (length, keys):
                raise ShapeError(
                    f"MultiheadAttention: attn_mask has shape {attn_mask.shape}; expected "
                    f"({length}, {keys}) or ({n * heads}, {length}, {keys})"
                )
            masks.append(attn_mask)
        if padding is not None:
            if padding.shape != (n, keys):
                raise ShapeError(
                    f"MultiheadAttention: key_padding_mask has shape {padding.shape}; expected "
                    f"({n}, {keys})"
                )
            masks.append(padding.reshape(n, 1, 1, keys))
        if not masks:
            return None
        if all(mask.dtype == _core.bool_ for mask in masks):
            hidden = masks[0] if len(masks) == 1 else masks[0] | masks[1]
            return ~hidden
        added = [
            _core.where(mask, -math.inf, 0.0) if mask.dtype == _core.bool_ else mask
            for mask in masks
        ]
        return added[0] if len(added) == 1 else added[0] + added[1]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.ndim != query.ndim or x.ndim not in (2, 3):
                raise ShapeError(
                    f"MultiheadAttention: {name} has shape {x.shape} and query {query.shape}; "
                    "expected three axes each, or two each without a batch"
                )
        one = query.ndim == 2
        if one:
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        batch = 0 if self.batch_first or one else 1

        def heads(x: Tensor, count: int, zero: bool = False, extra: Tensor | None = None) -> Tensor:
            x = x.unsqueeze(0) if one else x.swapaxes(0, 1) if batch else x
            if extra is not None:
                x = _core.concatenate([x, extra.broadcast_to((x.shape[0], 1, x.shape[2]))], 1)
            if zero:
                x = functional.pad(x, ((0, 0), (0, 1), (0, 0)))
            return x.reshape(*x.shape[:2], count, -1).swapaxes(1, 2)

        q, k, v = self._projected(query, key, value)
        zero, several = self.add_zero_attn, self.num_kv_heads
        q = heads(q, self.num_heads)
        k, v = heads(k, several, zero, self.bias_k), heads(v, several, zero, self.bias_v)
        extra = zero + (self.bias_k is not None)
        if cache is not None and extra:
            raise ValueError(
                "MultiheadAttention: a cache has no place for add_bias_kv and add_zero_attn"
            )
        before = 0 if cache is None else len(cache)
        n, _, length, _ = q.shape
        keys = before + k.shape[2] - extra
        causal = is_causal and attn_mask is None
        if causal and (extra or before):
            along = _core.arange(keys, device=q.device)
            last = _core.arange(before, before + length, device=q.device)
            attn_mask = None if length == 1 and before + 1 == keys else along > last.unsqueeze(1)
            causal = False
        mask = self._mask(attn_mask, key_padding_mask, n, length, keys)
        if mask is not None and extra:
            seen = _core.ones((*mask.shape[:-1], extra), mask.dtype, mask.device)
            seen = seen if mask.dtype == _core.bool_ else seen * 0
            mask = _core.concatenate([mask, seen], -1)
        if cache is not None:
            k, v = cache.append(k, v)
        if several < self.num_heads:
            k, v = (x.repeat_interleave(self.num_heads // several, 1) for x in (k, v))
        drops = self.training and self.dropout > 0
        weights = None
        if need_weights or drops:
            weights = _core.attention_weights(q, k, mask, causal)
            weights = functional.dropout(weights, self.dropout, self.training, self.generator)
            y = weights @ v
        else:
            y = _core._attention(q, k, v, mask, causal)
        y = y.swapaxes(1, 2).reshape(n, length, self.embed_dim)
        y = self.out_proj(y.squeeze(0) if one else y.swapaxes(0, 1) if batch else y)
        if not need_weights or weights is None:
            return y, None
        weights = weights.mean(1) if average_attn_weights else weights
        return y, weights.squeeze(0) if one else weights

    def extra_repr(self) -> str:
        text = f"{self.embed_dim}, {self.num_heads}, batch_first={self.batch_first}"
        grouped = self.num_kv_heads < self.num_heads
        return f"{text}, num_kv_heads={self.num_kv_heads}" if grouped else text


Activation = Callable[[Tensor], Tensor]


class _Layer(Module):
    """What the layers of encoder and decoder share: attention to itself, and two Linear."""

    activation: Activation

    @_explained.explained
    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        def attention() -> MultiheadAttention:
            return MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype,
                generator=generator,
            )  # fmt: skip

        self.self_attn = attention()
        if self._attentions == 2:
            self.multihead_attn = attention()
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype, generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype, generator)
        self.dropout = Dropout(dropout, generator)
        for i in range(1, self._attentions + 2):
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
            setattr(self, f"norm{i}", norm)
            setattr(self, f"dropout{i}", Dropout(dropout, generator))
        if isinstance(activation, str):
            choice(type(self).__name__, "activation", activation, ("relu", "gelu"))
            activation = _core.relu if activation == "relu" else _core.gelu
        self.activation, self.norm_first = activation, norm_first

    _attentions = 1
    norm1: LayerNorm
    norm2: LayerNorm
    dropout1: Dropout
    dropout2: Dropout

    def _part(self, x: Tensor, norm: Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        """x + part(x), normalised after it, or with norm_first before."""
        if self.norm_first:
            return x + part(norm(x))
        y: Tensor = norm(x + part(x))
        return y

    def _feed_forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return y


class TransformerEncoderLayer(_Layer):
    """x = norm1(x + self_attn(x)), then norm2(x + linear2(activation(linear1(x)))); with norm_first
    the norms are of what goes in. Dropout after each part, in training.

    src (L, n, d_model), with batch_first (n, L, d_model), or (L, d_model). activation: "relu",
    "gelu" or a function.
    """

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            y, _ = self.self_attn(
                x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal
            )
            return self.dropout1(y)  # type: ignore[no-any-return]

        x = self._part(src, self.norm1, attend)
        return self._part(x, self.norm2, lambda x: self.dropout2(self._feed_forward(x)))


class TransformerDecoderLayer(_Layer):
    """TransformerEncoderLayer with attention to `memory`, what an encoder gave, after that to
    itself: norm2(x + multihead_attn(x, memory)); norm3 is the last."""

    _attentions = 2
    norm3: LayerNorm
    dropout3: Dropout

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            y, _ = self.self_attn(
                x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal
            )
            return self.dropout1(y)  # type: ignore[no-any-return]

        def attend_memory(x: Tensor) -> Tensor:
            y, _ = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask,
                is_causal=memory_is_causal,
            )  # fmt: skip
            return self.dropout2(y)  # type: ignore[no-any-return]

        x = self._part(tgt, self.norm1, attend)
        x = self._part(x, self.norm2, attend_memory)
        return self._part(x, self.norm3, lambda x: self.dropout3(self._feed_forward(x)))


class TransformerEncoder(Module):
    """num_layers copies of a layer, one after another, and a norm at the end where one is given."""

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """num_layers copies of a layer, one after another, and a norm at the end where one is given."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList([copy.deepcopy(decoder_layer) for _ in range(num_layers)])
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        for layer in self.layers:
            tgt = layer(
                tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                tgt_is_causal, memory_is_causal,
            )  # fmt: skip
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder of src and a decoder of tgt that attends to what it gives, as PyTorch's."""

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        *,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        same = (dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first)
        encoder = TransformerEncoderLayer(d_model, nhead, *same, bias, dtype, generator)
        decoder = TransformerDecoderLayer(d_model, nhead, *same, bias, dtype, generator)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        self.encoder = TransformerEncoder(encoder, num_encoder_layers, norm())
        self.decoder = TransformerDecoder(decoder, num_decoder_layers, norm())
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter, generator=generator)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool = False,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        y: Tensor = self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip
        return y

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: Any = None) -> Tensor:
        """(sz, sz): 0 up to the diagonal, -inf after it."""
        along = _core.arange(sz)
        return _core.where(along > along.unsqueeze(1), -math.inf, 0.0).to(dtype or "float32")


_explained.explain_all(globals())
