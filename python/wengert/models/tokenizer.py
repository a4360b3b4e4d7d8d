"""BertTokenizer: texts to numbers of word pieces, on the `tokenizers` library.

A directory's tokenizer.json is taken as it is; without one, vocab.txt and tokenizer_config.json
make the tokenizer that BERT came with: text is cleaned and split at blanks and punctuation, each
word into its longest known pieces (Wu et al. 2016, arXiv 1609.08144).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from .. import _core
from ..io import FileError

__all__ = ["BertTokenizer"]

PIP_LINE = 'pip install "wengert[hf]"'
ROLES = {"[PAD]": "pad_token", "[UNK]": "unk_token", "[CLS]": "cls_token", "[SEP]": "sep_token"}


class BertTokenizer:
    """tokenizer(text) gives the arguments of a BertModel; see from_pretrained and __call__."""

    def __init__(self, backend: Any, model_max_length: int = 512) -> None:
        """backend: a tokenizers.Tokenizer; model_max_length: where truncation cuts."""
        self.backend = backend
        self.model_max_length = model_max_length
        self.pad_token_id: int = backend.token_to_id("[PAD]") or 0
        backend.no_padding()
        backend.no_truncation()

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> Self:
        """The tokenizer of a directory with tokenizer.json or vocab.txt.

        FileError without them, or if the vocabulary has more words than the config.json beside it;
        ImportError, with the line that installs it, without the `tokenizers` library.
        """
        try:
            import tokenizers
        except ImportError:
            raise ImportError(f"BertTokenizer needs the tokenizers library: {PIP_LINE}") from None
        folder = Path(directory)
        settings = _read(folder / "tokenizer_config.json")
        whole, words = folder / "tokenizer.json", folder / "vocab.txt"
        if not whole.is_file() and not words.is_file():
            raise FileError(f"{folder}: has neither tokenizer.json nor vocab.txt")
        try:
            if whole.is_file():
                backend = tokenizers.Tokenizer.from_file(str(whole))
            else:
                backend = _from_words(words, bool(settings.get("do_lower_case", True)))
        except Exception as error:  # the library raises plain Exception
            raise FileError(f"{whole if whole.is_file() else words}: {error}") from None
        size = _read(folder / "config.json").get("vocab_size")
        if isinstance(size, int) and backend.get_vocab_size() > size:
            raise FileError(
                f"{folder}: the vocabulary has {backend.get_vocab_size()} words, and the model's "
                f"embedding, by config.json, {size}: they do not belong together"
            )
        longest = settings.get("model_max_length", 512)
        return cls(backend, longest if isinstance(longest, int) and longest < 10**9 else 512)

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
        if return_tensors not in (None, "wg", "np"):
            raise ValueError(f"tokenizer: return_tensors is {return_tensors!r}; give 'wg' or 'np'")
        longest = self.model_max_length if max_length is None else max_length
        if truncation:
            self.backend.enable_truncation(longest)
        try:
            found = self.backend.encode_batch(inputs)
        finally:
            self.backend.no_truncation()
        length = max(len(f.ids) for f in found)
        if padding == "max_length":
            length = max(length, longest)
        if pad_to_multiple_of:
            length = -(-length // pad_to_multiple_of) * pad_to_multiple_of

        def filled(values: list[int], filler: int) -> list[int]:
            return values + [filler] * (length - len(values) if padding else 0)

        result: dict[str, Any] = {
            "input_ids": [filled(f.ids, self.pad_token_id) for f in found],
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
        self.backend.save(str(folder / "tokenizer.json"))
        about = {"tokenizer_class": "BertTokenizer", "model_max_length": self.model_max_length}
        text = json.dumps(about | {role: token for token, role in ROLES.items()}, indent=2)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: is not JSON in UTF-8 ({error})") from None
    return given if isinstance(given, dict) else {}


def _from_words(path: Path, lowercase: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    backend = Tokenizer(models.WordPiece.from_file(str(path), unk_token="[UNK]"))
    missing = [token for token in ROLES if backend.token_to_id(token) is None]
    if missing:
        raise FileError(f"has no {', '.join(missing)}; it is not a vocabulary of BERT")
    backend.add_special_tokens([*ROLES, "[MASK]"])
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special: Any = [(token, backend.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    backend.post_processor = processors.BertProcessing(*special)
    return backend
