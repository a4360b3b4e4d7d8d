"""BertTokenizer: texts to numbers of word pieces, on the `tokenizers` library.

A directory's tokenizer.json is taken as it is, but for what tokenizer_config.json says of case,
accents, Chinese characters and padding; without one, vocab.txt and tokenizer_config.json make the
tokenizer that BERT came with: text is cleaned and split at blanks and punctuation, each word into
its longest known pieces (Wu et al. 2016, arXiv 1609.08144).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from .. import _core
from .._calls import choice
from ..io import FileError, write_text

__all__ = ["BertTokenizer"]

PIP_LINE = 'pip install "wengert[hf]"'
ROLES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
ROLES["mask_token"] = "[MASK]"
# What tokenizer_config.json calls it: what tokenizers' BertNormalizer calls it.
NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


class BertTokenizer:
    """tokenizer(text) gives the arguments of a BertModel; see from_pretrained and __call__."""

    def __init__(
        self,
        backend: Any,
        model_max_length: int = 512,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """backend: a tokenizers.Tokenizer; model_max_length: where truncation cuts.

        settings: pad_token, cls_token, ... as in tokenizer_config.json, where they differ from
        BERT's; padding_side and truncation_side ("right"). FileError where they do not fit.
        """
        self.backend = backend
        self.model_max_length = model_max_length
        settings = settings or {}
        self.sides = {}
        for key in ("padding_side", "truncation_side"):
            self.sides[key] = settings.get(key) or "right"
            choice("tokenizer", key, self.sides[key], ("left", "right"), FileError)
        names = _special_tokens(settings)
        self.special = {
            role: name
            for role, default in ROLES.items()
            if backend.token_to_id(name := names.get(role, default)) is not None
        }
        self.pad_token_id = self._padding(names.get("pad_token"), settings)
        if self.pad_token_id is not None:
            self.special["pad_token"] = backend.id_to_token(self.pad_token_id)
        backend.no_padding()
        backend.no_truncation()

    def _padding(self, name: str | None, settings: Mapping[str, Any]) -> int | None:
        """The number of the token that fills up rows; None where nothing says which."""
        own = self.backend.padding
        default: int | None = self.backend.token_to_id(ROLES["pad_token"])
        if name is not None:
            default = self.backend.token_to_id(name)
            if default is None:
                raise FileError(f"pad_token is {name!r}, which the vocabulary lacks")
        elif own is not None:
            default = own["pad_id"]
        elif default is None:
            default = settings.get("pad_token_id")
        if default is not None and self.backend.id_to_token(default) is None:
            raise FileError(f"the padding token has the number {default}, which is no word's")
        return default

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> Self:
        """The tokenizer of a directory with tokenizer.json or vocab.txt.

        tokenizer_config.json and special_tokens_map.json name the special tokens. FileError
        without a vocabulary, if it has more words than the config.json beside it, or for settings
        that do not fit it or are not known; ImportError, with the line that installs it, without
        the `tokenizers` library.
        """
        try:
            import tokenizers
        except ImportError:
            raise ImportError(f"BertTokenizer needs the tokenizers library: {PIP_LINE}") from None
        folder = Path(directory)
        given = _read(folder / "tokenizer_config.json")
        settings = _read(folder / "special_tokens_map.json")
        settings |= {key: value for key, value in given.items() if value is not None}
        about = _read(folder / "config.json")
        if type(about.get("pad_token_id")) is int:
            settings.setdefault("pad_token_id", about["pad_token_id"])
        whole, words = folder / "tokenizer.json", folder / "vocab.txt"
        if not whole.is_file() and not words.is_file():
            raise FileError(f"{folder}: has neither tokenizer.json nor vocab.txt")
        try:
            if whole.is_file():
                backend = tokenizers.Tokenizer.from_file(str(whole))
                if isinstance(backend.normalizer, tokenizers.normalizers.BertNormalizer):
                    for key, value in _normalizer(settings).items():
                        setattr(backend.normalizer, key, value)
            else:
                backend = _from_words(words, settings)
        except Exception as error:  # the library raises plain Exception
            raise FileError(f"{whole if whole.is_file() else words}: {error}") from None
        size = about.get("vocab_size")
        if isinstance(size, int) and backend.get_vocab_size() > size:
            raise FileError(
                f"{folder}: the vocabulary has {backend.get_vocab_size()} words, and the model's "
                f"embedding, by config.json, {size}: they do not belong together"
            )
        longest = settings.get("model_max_length", 512)
        try:
            return cls(
                backend, longest if type(longest) is int and 0 < longest < 10**9 else 512, settings
            )
        except FileError as error:
            raise FileError(f"{folder}: {error}") from None

    def __len__(self) -> int:
        """The number of words and word pieces."""
        return int(self.backend.get_vocab_size())

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        padding: bool | Literal["longest", "max_length"] = False,
        truncation: bool = False,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: Literal["wg", "np"] | None = None,
    ) -> dict[str, Any]:
        """input_ids, token_type_ids and attention_mask: lists, or int64 tensors (texts, tokens).

        text, text_pair      one text or several; the second of a pair is of token type 1
        padding              True: to the longest of these; "max_length": to max_length
        truncation           cut to max_length tokens (model_max_length), [CLS] and [SEP] included
        pad_to_multiple_of   pad further: few lengths, for compiled steps
        return_tensors       "wg": wengert tensors, "np": NumPy arrays, None: lists
        """
        one = isinstance(text, str)
        texts = [text] if isinstance(text, str) else list(text)
        pairs = [text_pair] if isinstance(text_pair, str) else text_pair
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(
                f"tokenizer: got {len(texts)} texts and {len(pairs)} second texts; expected as many"
            )
        inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
        if not texts or not all(isinstance(t, str) for t in [*texts, *(pairs or [])]):
            raise TypeError("tokenizer: expected one text, or a list of one or more")
        if return_tensors is not None:
            choice("tokenizer", "return_tensors", return_tensors, ("wg", "np"))
        longest = self.model_max_length if max_length is None else max_length
        if truncation:
            self.backend.enable_truncation(longest, direction=self.sides["truncation_side"])
        try:
            found = self.backend.encode_batch(inputs)
        finally:
            self.backend.no_truncation()
        length = max(len(f.ids) for f in found)
        if padding == "max_length":
            length = max(length, longest)
        if pad_to_multiple_of:
            length = -(-length // pad_to_multiple_of) * pad_to_multiple_of

        pad = self.pad_token_id
        if padding and pad is None and any(len(f.ids) < length for f in found):
            raise ValueError(
                "tokenizer: nothing says which token is for padding; name it as pad_token in "
                "tokenizer_config.json, or leave padding out"
            )

        def filled(values: list[int], filler: int) -> list[int]:
            more = [filler] * (length - len(values) if padding else 0)
            return more + values if self.sides["padding_side"] == "left" else values + more

        result: dict[str, Any] = {
            "input_ids": [filled(f.ids, pad or 0) for f in found],
            "token_type_ids": [filled(f.type_ids, 0) for f in found],
            "attention_mask": [filled(f.attention_mask, 0) for f in found],
        }
        if return_tensors is None:
            return {name: rows[0] for name, rows in result.items()} if one else result
        if len({len(row) for row in result["input_ids"]}) > 1:
            raise ValueError("tokenizer: the texts differ in length; say padding=True")
        if return_tensors == "np":
            import numpy as np

            return {name: np.asarray(rows, np.int64) for name, rows in result.items()}
        return {name: _core.tensor(rows, dtype="int64") for name, rows in result.items()}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids, as far as it can be told."""
        return str(self.backend.decode(list(ids), skip_special_tokens))

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The pieces themselves."""
        return [self.backend.id_to_token(i) for i in ids]

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Writes tokenizer.json and tokenizer_config.json."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        about = {"tokenizer_class": "BertTokenizer", "model_max_length": self.model_max_length}
        text = json.dumps(about | self.special | self.sides, indent=2)
        write_text(folder / "tokenizer_config.json", text + "\n")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: is not JSON in UTF-8 ({error})") from None
    return given if isinstance(given, dict) else {}


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """The names that the settings give, by role: text, or an object with the text as "content"."""
    names = {}
    for role in ROLES:
        name = settings.get(role)
        name = name.get("content") if isinstance(name, dict) else name
        if name is not None:
            if not isinstance(name, str) or not name:
                raise FileError(f"{role} is {settings[role]!r}; expected a word")
            names[role] = name
    return names


def _normalizer(settings: Mapping[str, Any]) -> dict[str, bool]:
    """What the settings say of case, accents and Chinese characters, in BertNormalizer's words."""
    found = {}
    for key, name in NORMALIZER.items():
        value = settings.get(key)
        if value is not None:
            if not isinstance(value, bool):
                raise FileError(f"{key} is {value!r}; expected true, false or null")
            found[name] = value
    return found


def _from_words(path: Path, settings: Mapping[str, Any]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    if settings.get("do_basic_tokenize") is False or settings.get("never_split"):
        raise FileError(
            "tokenizer_config.json sets do_basic_tokenize or never_split, not known here"
        )
    names = ROLES | _special_tokens(settings)
    backend = Tokenizer(models.WordPiece.from_file(str(path), unk_token=names["unk_token"]))
    wanted = [role for role in ROLES if role != "mask_token" or settings.get(role)]
    missing = [names[role] for role in wanted if backend.token_to_id(names[role]) is None]
    if missing:
        raise FileError(f"has no {', '.join(missing)}; it is not a vocabulary of BERT")
    more = settings.get("additional_special_tokens") or []
    more = [token.get("content") if isinstance(token, dict) else token for token in more]
    if not all(isinstance(token, str) for token in more):
        raise FileError(f"additional_special_tokens is {more!r}; expected words")
    backend.add_special_tokens([*names.values(), *more])
    backend.normalizer = normalizers.BertNormalizer(**{"lowercase": True} | _normalizer(settings))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special: Any = [(names[r], backend.token_to_id(names[r])) for r in ("sep_token", "cls_token")]
    backend.post_processor = processors.BertProcessing(*special)
    return backend
