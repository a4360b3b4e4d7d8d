"""Models and their settings in a directory: config.json and model.safetensors, as Hugging Face
writes them. The file is memory-mapped: weights are read when they are first used, and an edit stays
in this process. Everything is checked before anything is built of it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any, ClassVar, Self

from .. import _core, io, nn
from .._core import Tensor
from ..io import FileError

__all__ = ["Pretrained", "PretrainedConfig"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_CONFIG = 1_000_000  # bytes


@dataclasses.dataclass
class PretrainedConfig:
    """A config.json: fields that the class does not know are passed over."""

    model_type: ClassVar[str]

    def least_parameters(self) -> int:
        """How many numbers a file of such a model holds at least, whatever its head."""
        raise NotImplementedError

    def check_numbers(self) -> None:
        """ValueError for a field of another type than its default's, or out of range."""
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if value is None and "None" in str(field.type):
                continue
            good = type(value) is kind or (kind is float and type(value) is int)
            if good and kind is int:
                good = 0 <= value < 2**31 and (value > 0 or field.name.endswith("_id"))
            if good and kind is float:
                good = math.isfinite(value) and 0 <= value <= 1
            if not good:
                raise ValueError(
                    f"{type(self).__name__}: {field.name} is {value!r}; expected {kind.__name__}"
                    + (", above 0" if kind is int else ", 0 to 1" if kind is float else "")
                )

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str], **changes: Any) -> Self:
        """Reads config.json; `changes` replace its fields. FileError where it will not do."""
        path = Path(directory) / CONFIG
        if not path.is_file():
            raise FileError(
                f"{path}: there is no such file; expected a directory with {CONFIG} and {WEIGHTS}"
            )
        if path.stat().st_size > MAX_CONFIG:
            raise FileError(f"{path}: has {path.stat().st_size} bytes, too many for a {CONFIG}")
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise FileError(f"{path}: is not JSON in UTF-8 ({error})") from None
        if not isinstance(given, dict) or given.get("model_type") != cls.model_type:
            kind = given.get("model_type") if isinstance(given, dict) else None
            raise FileError(
                f"{path}: has the model_type {kind!r}; {cls.__name__} reads {cls.model_type!r}"
            )
        if given.get("position_embedding_type", "absolute") != "absolute":
            raise FileError(
                f"{path}: has the position_embedding_type {given['position_embedding_type']!r}; "
                "only 'absolute' is known"
            )
        if isinstance(given.get("id2label"), dict):
            given.setdefault("num_labels", len(given["id2label"]))
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = set(changes) - names
        if unknown:
            raise TypeError(
                f"{cls.__name__}: has no fields {sorted(unknown)}; it has {sorted(names)}"
            )
        fields = {key: value for key, value in given.items() if key in names}
        try:
            return cls(**{**fields, **changes})
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None


class Pretrained(nn.Module):
    """A model that from_pretrained makes and save_pretrained keeps.

    A model is either a base (BertModel) or has one as the attribute `base_prefix` and a head;
    either loads from the other's file, whose names have that prefix or have not.
    """

    config_class: ClassVar[type[PretrainedConfig]]
    base_prefix: ClassVar[str]
    other_heads: ClassVar[tuple[str, ...]] = ()  # beginnings of names that this class passes over
    is_base: ClassVar[bool] = False
    config: Any

    def __init__(self, config: Any) -> None:
        """Random weights of the sizes in `config`."""
        raise NotImplementedError

    @staticmethod
    def tied(config: Any) -> dict[str, str]:
        """Names whose parameter is that of another name: files have the second only."""
        return {}

    @staticmethod
    def least_parameters(config: Any) -> int:
        """How many numbers a file of this class holds at least."""
        return int(config.least_parameters())

    def init_weights(self, module: nn.Module | None = None) -> None:
        """Weights from N(0, initializer_range^2), biases zero: here, or in one part."""
        for part in (module or self).modules():
            if isinstance(part, (nn.Linear, nn.Embedding)):
                nn.init.normal_(part.weight, 0.0, self.config.initializer_range)
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)

    @classmethod
    def from_pretrained(
        cls, directory: str | os.PathLike[str], new_head: bool = False, **changes: Any
    ) -> Self:
        """The model in a directory, in evaluation mode, as after eval().

        new_head   weights outside the base that the file lacks are drawn at random: to train a
                   classifier on an encoder
        changes    fields of the config that differ from the file's: num_labels=3

        FileError lists all tensors that are missing, unexpected or of another shape.
        """
        config = cls.config_class.from_pretrained(directory, **changes)
        path = Path(directory) / WEIGHTS
        if not path.is_file():
            hint = ""
            if (Path(directory) / "pytorch_model.bin").exists():
                hint = "; pytorch_model.bin is a pickle, which can run any code: convert it once"
            raise FileError(f"{path}: there is no such file{hint}")
        given = cls._renamed(io.load(path, mmap=True), config)
        held, least = sum(t.numel() for t in given.values()), cls.least_parameters(config)
        if least > 8 * held + 100_000:  # less than that is built, to list what does not fit
            raise FileError(
                f"{path}: has {held:,} numbers, and the model of {CONFIG} {least:,} or more: they "
                "do not belong together"
            )
        with nn.init.skip_init():
            model = cls(config)
        base = "" if cls.is_base else f"{cls.base_prefix}."
        own = model.state_dict()
        head = [name for name in own if name not in given and not name.startswith(base)]
        if head and new_head:
            for name, part in model.named_children():
                if name != cls.base_prefix:
                    model.init_weights(part)
            given |= {name: own[name] for name in head}
        try:
            model.load_state_dict(given, assign=True)
        except ValueError as error:
            lines = str(error).split("\n")
            hint = ""
            if head and not new_head:
                hint = "; new_head=True draws what the file lacks of the head at random"
            raise FileError(
                f"{path}: {len(lines) - 1} tensors do not fit {cls.__name__} with its "
                f"{CONFIG}{hint}:\n" + "\n".join(lines[1:])
            ) from None
        del own
        _core.empty_cache()  # of the memory that the model was built with, never used
        return model.eval()

    @classmethod
    def _renamed(cls, state: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
        """The file's tensors under this class's names."""
        prefix = f"{cls.base_prefix}."
        prefixed = any(name.startswith(prefix) for name in state)
        result: dict[str, Tensor] = {}
        for given, tensor in state.items():
            name = given if prefixed else prefix + given
            if name.endswith(".position_ids") or name.startswith(cls.other_heads):
                continue
            # Files from before 2019 call them so.
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
            name = name.replace("LayerNorm.beta", "LayerNorm.bias")
            result[name.removeprefix(prefix) if cls.is_base else name] = tensor
        for name, source in cls.tied(config).items():
            if source in result:
                result[name] = result[source]
        return result

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Writes config.json and model.safetensors, for from_pretrained here and elsewhere."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        about = dataclasses.asdict(self.config)
        about |= {"model_type": self.config.model_type, "architectures": [type(self).__name__]}
        about["id2label"] = {str(i): f"LABEL_{i}" for i in range(about.pop("num_labels"))}
        state = self.state_dict()
        for name in self.tied(self.config):
            del state[name]
        io.save(folder / WEIGHTS, state, {"format": "pt"})
        text = json.dumps(about, indent=2, sort_keys=True) + "\n"
        io.write_text(folder / CONFIG, text)
