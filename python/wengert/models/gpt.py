"""A language model that reads from left to right: the Transformer's decoder alone, as GPT-2 has it
(Radford et al. 2019): norms before each part, learned places, one matrix for tokens in and out.

    model = GPT(vocab=96, width=128, layers=4, heads=4, context=128)
    logits = model(ids)                                   # (n, length) to (n, length, vocab)
    loss = wg.cross_entropy(logits[:, :-1], ids[:, 1:])   # each place tells the next token
    more = model.eval().generate(ids, 200, temperature=0.8)
"""

from __future__ import annotations

import math

import wengert as wg
from wengert import Tensor, nn

__all__ = ["GPT"]


class Block(nn.Module):
    """Attention to the places before, then two Linear; each adds to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """width: of each place; the feed-forward part is four times as wide."""
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        """(n, length, width) to the same; places in `cache` are before those of x."""
        h = self.norm1(x)
        h, _ = self.attention(h, h, h, need_weights=False, is_causal=True, cache=cache)
        x = x + self.dropout(h)
        h = self.feed_forward(self.norm2(x))
        return x + self.dropout(h)  # type: ignore[no-any-return]


class GPT(nn.Module):
    """Token numbers (n, length), int64, to scores (n, length, vocab) of the token that follows."""

    def __init__(
        self,
        vocab: int,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        context: int = 128,
        dropout: float = 0.0,
    ) -> None:
        """vocab: how many tokens there are; context: the most places; width / heads is whole.

        Weights are drawn as for GPT-2: with a deviation of 0.02, those that end a part by the root
        of the number of parts smaller.
        """
        self.vocab, self.context = vocab, context
        self.tokens = nn.Embedding(vocab, width)
        self.places = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = [Block(width, heads, dropout) for _ in range(layers)]
        self.norm = nn.LayerNorm(width)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                ends = name.endswith(("out_proj.weight", "feed_forward.2.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * layers) if ends else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids: Tensor, caches: list[nn.KeyValueCache] | None = None) -> Tensor:
        """With `caches`, one a layer, ids follow the places that these hold.

        Raises ShapeError for more places than the context has.
        """
        before = 0 if caches is None else len(caches[0])
        end = before + ids.shape[1]
        if end > self.context:
            raise wg.ShapeError(
                f"GPT: got {end} places; its context has {self.context}: cut the text, or make a "
                "model with a longer one"
            )
        places = wg.arange(before, end, device=ids.device)
        x = self.dropout(self.tokens(ids) + self.places(places))
        for i, block in enumerate(self.blocks):
            x = block(x, caches and caches[i])
        return self.norm(x) @ self.tokens.weight.T  # type: ignore[no-any-return]

    @wg.no_grad()
    def generate(
        self,
        ids: Tensor,
        count: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: wg.Generator | None = None,
    ) -> Tensor:
        """ids (n, length) and `count` more tokens, drawn one after another, (n, length + count).

        Scores are divided by the temperature; 0 takes the likeliest token. top_k: each token is
        one of the top_k likeliest. Keys and values of former places are kept, so that a token costs
        one place; when the context is full, its later half is read again.
        Raises ValueError for ids without a place, a negative count or temperature, a top_k below 1.
        """
        if ids.ndim != 2 or ids.shape[1] == 0:
            raise wg.ShapeError(
                f"generate: ids have shape {ids.shape}; expected (n, length), length 1 or more"
            )
        if count < 0 or temperature < 0 or (top_k is not None and top_k < 1):
            raise ValueError(
                f"generate: count is {count}, temperature {temperature} and top_k {top_k}; "
                "expected 0 or more, 0 or more, and 1 or more or None"
            )
        caches: list[nn.KeyValueCache] = []
        for _ in range(count):
            if not caches or len(caches[0]) == self.context:
                caches = [nn.KeyValueCache() for _ in self.blocks]
                length = ids.shape[1]
                given = ids[:, -(length if length <= self.context else -(-self.context // 2)) :]
            scores = self(given, caches)[:, -1]
            if temperature == 0:
                given = scores.argmax(1, keepdims=True)
            else:
                scores = scores / temperature
                if top_k is not None and top_k < scores.shape[1]:
                    least = wg.topk(scores, top_k)[0][:, -1:]
                    scores = wg.where(scores < least, -math.inf, scores)
                given = wg.multinomial(wg.softmax(scores, 1), 1, generator=generator)
            ids = wg.concatenate([ids, given], 1)
        return ids
