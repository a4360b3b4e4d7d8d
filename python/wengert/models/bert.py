"""BERT: a stack of transformer layers that reads a whole text at once, both ways (Devlin, Chang,
Lee and Toutanova 2018, arXiv 1810.04805).

    tokenizer = BertTokenizer.from_pretrained(path)
    model = BertModel.from_pretrained(path)
    outputs = model(**tokenizer("Hello, my name is John Doe.", return_tensors="wg"))
    last_hidden_state, pooled_output = outputs[0], outputs[1]

`path` is a directory with config.json, model.safetensors and vocab.txt or tokenizer.json, as
Hugging Face writes them. Attributes have the names of that file's tensors:
encoder.layer.3.attention.self. query.weight is found there. In shapes below, B texts of T tokens
have C features (hidden_size), in H heads of D = C / H.
"""

# ruff: noqa: D102, D105, D107 - what a layer computes stands at its class

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import wengert as wg
from wengert import Tensor, nn

from .pretrained import Pretrained, PretrainedConfig
from .tokenizer import BertTokenizer

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertModel",
    "BertTokenizer",
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": wg.gelu,
    "gelu_new": lambda x: wg.gelu(x, "tanh"),
    "gelu_pytorch_tanh": lambda x: wg.gelu(x, "tanh"),
    "relu": wg.relu,
    "silu": wg.silu,
    "tanh": wg.tanh,
}


@dataclass
class BertConfig(PretrainedConfig):
    """The sizes of a BERT; the defaults are those of bert-base-uncased."""

    model_type: ClassVar[str] = "bert"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    num_labels: int = 2
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        self.check_numbers()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"BertConfig: hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ValueError(
                f"BertConfig: pad_token_id is {self.pad_token_id}; it must be below vocab_size, "
                f"{self.vocab_size}, or None"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(
                f"BertConfig: hidden_act is {self.hidden_act!r}; known are {', '.join(ACTIVATIONS)}"
            )

    def least_parameters(self) -> int:
        """Of the embeddings and of the matrices in the layers."""
        c = self.hidden_size
        rows = self.vocab_size + self.max_position_embeddings + self.type_vocab_size
        return c * (rows + self.num_hidden_layers * (4 * c + 2 * self.intermediate_size))


class BertOutput(NamedTuple):
    """What BertModel gives: (B, T, C), and (B, C) or, without a pooler, None."""

    last_hidden_state: Tensor
    pooler_output: Tensor | None


class HeadOutput(NamedTuple):
    """What a model with a head gives: the loss if there are labels, and the scores."""

    loss: Tensor | None
    logits: Tensor


class BertEmbeddings(nn.Module):
    """Word, place and kind of segment: three vectors a token, added and normalized."""

    def __init__(self, c: BertConfig) -> None:
        self.word_embeddings = nn.Embedding(c.vocab_size, c.hidden_size, c.pad_token_id)
        self.position_embeddings = nn.Embedding(c.max_position_embeddings, c.hidden_size)
        self.token_type_embeddings = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.LayerNorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.dropout = nn.Dropout(c.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        length, longest = input_ids.shape[1], self.position_embeddings.num_embeddings
        if length > longest:
            raise wg.ShapeError(
                f"input_ids has shape {input_ids.shape}: {length} tokens, and the model has "
                f"{longest} positions; cut texts with tokenizer(..., truncation=True)"
            )
        if token_type_ids is None:
            kind = self.token_type_embeddings.weight[0]  # (C,): all tokens are of kind 0
        else:
            kind = self.token_type_embeddings(token_type_ids)
        x = self.word_embeddings(input_ids) + kind + self.position_embeddings.weight[:length]
        y: Tensor = self.dropout(self.LayerNorm(x))
        return y  # (B, T, C)


class BertSelfAttention(nn.Module):
    """Each token asks (query) all tokens (key), and averages their values by the answers."""

    def __init__(self, c: BertConfig) -> None:
        self.heads = c.num_attention_heads
        self.query = nn.Linear(c.hidden_size, c.hidden_size)
        self.key = nn.Linear(c.hidden_size, c.hidden_size)
        self.value = nn.Linear(c.hidden_size, c.hidden_size)
        self.dropout = nn.Dropout(c.attention_probs_dropout_prob)

    def split_heads(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, H, T, D)"""
        b, t, c = x.shape
        return x.reshape(b, t, self.heads, c // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (self.split_heads(layer(x)) for layer in (self.query, self.key, self.value))
        y: Tensor
        if self.training and self.dropout.p > 0:  # drops weights, so there must be weights
            y = self.dropout(wg.attention_weights(q, k, mask)) @ v
        else:
            y = wg.scaled_dot_product_attention(q, k, v, mask)  # (B, H, T, D)
        return y.transpose(1, 2).reshape(*x.shape)  # (B, T, C)


class AddAndNorm(nn.Module):
    """LayerNorm(dense(x) + residual): how each half of a layer ends."""

    def __init__(self, inputs: int, c: BertConfig) -> None:
        self.dense = nn.Linear(inputs, c.hidden_size)
        self.LayerNorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.dropout = nn.Dropout(c.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        y: Tensor = self.LayerNorm(self.dropout(self.dense(x)) + residual)
        return y


class BertAttention(nn.Module):
    """Attention and its projection."""

    def __init__(self, c: BertConfig) -> None:
        self.self = BertSelfAttention(c)
        self.output = AddAndNorm(c.hidden_size, c)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y: Tensor = self.output(self.self(x, mask), x)
        return y


class Dense(nn.Module):
    """act(dense(x))"""

    def __init__(self, inputs: int, outputs: int, act: str) -> None:
        self.dense = nn.Linear(inputs, outputs)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.act](self.dense(x))


class BertLayer(nn.Module):
    """Attention between tokens, then a network of one hidden layer on each token."""

    def __init__(self, c: BertConfig) -> None:
        self.attention = BertAttention(c)
        self.intermediate = Dense(c.hidden_size, c.intermediate_size, c.hidden_act)
        self.output = AddAndNorm(c.intermediate_size, c)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.attention(x, mask)
        z: Tensor = self.output(self.intermediate(y), y)
        return z


class BertEncoder(nn.Module):
    """The layers, one after another."""

    def __init__(self, c: BertConfig) -> None:
        self.layer = [BertLayer(c) for _ in range(c.num_hidden_layers)]

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class BertModel(Pretrained):
    """The encoder: a vector for each token, and (pooler) one for the text, from its first token."""

    config_class = BertConfig
    base_prefix = "bert"
    is_base = True
    other_heads = ("cls.", "classifier.")

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        if add_pooling_layer:
            self.pooler = Dense(config.hidden_size, config.hidden_size, "tanh")
        self.init_weights()

    def forward(
        self,
        input_ids: Tensor,  # (B, T), integers
        attention_mask: Tensor | None = None,  # (B, T), 0 for padding: not looked at
        token_type_ids: Tensor | None = None,  # (B, T), 0 or 1: first or second text of a pair
    ) -> BertOutput:
        for name, value in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
            shape = input_ids.shape
            if len(shape) != 2 or not shape[1] or (value is not None and value.shape != shape):
                raise wg.ShapeError(
                    f"input_ids has shape {shape}"
                    + (f" and {name} {value.shape}" if value is not None else "")
                    + "; expected (texts, tokens), for all of them, and one token or more"
                )
        mask = None if attention_mask is None else (attention_mask != 0)[:, None, None, :]
        x = self.encoder(self.embeddings(input_ids, token_type_ids), mask)
        pooler = getattr(self, "pooler", None)
        return BertOutput(x, None if pooler is None else pooler(x[:, 0]))


class BertForSequenceClassification(Pretrained):
    """A class for each text, from the pooled output. Takes what BertModel does, and labels (B,)."""

    config_class = BertConfig
    base_prefix = "bert"
    other_heads = ("cls.",)

    def __init__(self, config: BertConfig) -> None:
        self.config = config
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.init_weights(self.classifier)

    @staticmethod
    def least_parameters(config: BertConfig) -> int:
        """Of the encoder and the classifier."""
        return config.least_parameters() + config.num_labels * config.hidden_size

    def forward(self, *text: Tensor, labels: Tensor | None = None, **more: Tensor) -> HeadOutput:
        pooled = self.bert(*text, **more).pooler_output
        logits = self.classifier(self.dropout(pooled))  # (B, num_labels)
        return HeadOutput(None if labels is None else wg.cross_entropy(logits, labels), logits)


class DenseAndNorm(Dense):
    """LayerNorm(act(dense(x)))"""

    def __init__(self, c: BertConfig) -> None:
        super().__init__(c.hidden_size, c.hidden_size, c.hidden_act)
        self.LayerNorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.LayerNorm(super().forward(x))
        return y


class BertPredictions(nn.Module):
    """A score for each word of the vocabulary, by the table of word embeddings itself."""

    def __init__(self, c: BertConfig, words: nn.Embedding) -> None:
        self.transform = DenseAndNorm(c)
        self.decoder = nn.Linear(c.hidden_size, c.vocab_size)
        self.bias = self.decoder.bias
        if c.tie_word_embeddings:
            self.decoder.weight = words.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.decoder(self.transform(x))
        return y


class BertHead(nn.Module):
    """The predictions, under the name that files have for them."""

    def __init__(self, c: BertConfig, words: nn.Embedding) -> None:
        self.predictions = BertPredictions(c, words)


class BertForMaskedLM(Pretrained):
    """The word at each place, also of [MASK]. Takes what BertModel does, and labels (B, T), -100
    where nothing is asked."""

    config_class = BertConfig
    base_prefix = "bert"
    other_heads = ("bert.pooler.", "cls.seq_relationship.", "classifier.")

    @staticmethod
    def tied(config: BertConfig) -> dict[str, str]:
        names = {"cls.predictions.decoder.bias": "cls.predictions.bias"}
        if config.tie_word_embeddings:
            words = "bert.embeddings.word_embeddings.weight"
            names["cls.predictions.decoder.weight"] = words
        return names

    def __init__(self, config: BertConfig) -> None:
        self.config = config
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls = BertHead(config, self.bert.embeddings.word_embeddings)
        self.init_weights(self.cls)

    def forward(self, *text: Tensor, labels: Tensor | None = None, **more: Tensor) -> HeadOutput:
        x = self.bert(*text, **more).last_hidden_state
        logits = self.cls.predictions(x)  # (B, T, vocab_size)
        if labels is None:
            return HeadOutput(None, logits)
        asked = (labels != -100).flatten()
        rows = wg.cross_entropy(
            logits.flatten(0, 1), wg.where(asked, labels.flatten(), 0), reduction="none"
        )
        return HeadOutput((rows * asked.float()).sum() / asked.sum(), logits)


def mean_pooling(last_hidden_state: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean of the vectors of tokens that are not padding: (B, T, C) and (B, T) to (B, C)."""
    weight = attention_mask.to(last_hidden_state.dtype)[:, :, None]  # (B, T, 1)
    return (last_hidden_state * weight).sum(axis=1) / weight.sum(axis=1).clamp(min=1)
