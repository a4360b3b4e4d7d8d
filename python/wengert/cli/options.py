"""The settings of a network and its training: as options, as a checkpoint notes them, and as the
objects that they describe."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import UsageError

if TYPE_CHECKING:
    from wengert import nn
    from wengert.optim import Optimizer
    from wengert.train import Loss

ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "softplus")
LOSSES = ("cross_entropy", "mse", "mse_half")
# Name: its class in wengert.optim, and the learning rate unless one is given.
_OPTIMIZERS = {
    "sgd": ("SGD", 0.1),
    "momentum": ("SGD", 0.02),
    "adam": ("Adam", 0.005),
    "adamw": ("AdamW", 0.005),
    "rmsprop": ("RMSprop", 0.001),
    "adagrad": ("Adagrad", 0.05),
    "adamax": ("Adamax", 0.005),
    "nadam": ("NAdam", 0.005),
    "radam": ("RAdam", 0.005),
    "lion": ("Lion", 0.0005),
    "lamb": ("LAMB", 0.01),
}
OPTIMIZERS = tuple(_OPTIMIZERS)
METRICS = ("accuracy", "auc", "calibration_error", "f1", "r2", "top_k")
ENCODINGS = ("onehot", "ordinal", "mean", "median", "zero")
TEST_FRACTION = 0.2
# Name: the change of images (height, width) in wengert.data.
CHANGES: dict[str, Callable[[Any, int, int], Any]] = {
    "crop": lambda data, h, w: data.RandomCrop((h, w), padding=max(min(h, w) // 8, 1)),
    "flip": lambda data, h, w: data.RandomHorizontalFlip(),
    "rotate": lambda data, h, w: data.RandomRotation(10),
    "erase": lambda data, h, w: data.RandomErasing(0.3),
}


def number(kind: type, low: float, high: float = math.inf, *, open_low: bool = False) -> Any:
    """An argparse type: a finite number within [low, high], or (low, high] with open_low."""
    name = "a whole number" if kind is int else "a number"
    bounds = f"{'above' if open_low else 'at least'} {low}"
    if high < math.inf:
        bounds += f" and at most {high:,}"

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        good = math.isfinite(value) and low <= value <= high and not (open_low and value == low)
        if not good:
            raise argparse.ArgumentTypeError(f"{text} will not do; it must be {name}, {bounds}")
        return value

    return parse


def encoding(text: str) -> str:
    """An argparse type: COLUMN=KIND, a column and the encoder that it gets."""
    name, _, kind = text.rpartition("=")
    if not name or kind not in ENCODINGS:
        raise argparse.ArgumentTypeError(
            f"{text} will not do; it must be COLUMN=KIND, KIND one of {', '.join(ENCODINGS)}"
        )
    return text


def encoders_of(config: dict[str, Any]) -> dict[int | str, str]:
    """--encode, by column."""
    pairs = [text.rpartition("=")[::2] for text in config["encode"]]
    found = {column(name): kind for name, kind in pairs}
    if len(found) < len(pairs):
        raise UsageError("--encode names a column twice; give each one encoder")
    return found


class Setting(NamedTuple):
    """An option of `wengert train` that is noted in its checkpoints."""

    default: Any  # None: chosen to suit the data, as the help says
    kind: Any  # the words that it may be, or what makes a value of its text
    help: str
    metavar: str | None = None

    def check(self, value: Any) -> Any:
        """The value, where the command line would take it. ValueError says what it may be."""
        if value is None and self.default is None:
            return value
        if isinstance(self.default, list):
            if not isinstance(value, list):
                raise ValueError(f"{value!r} is not a list")
            one = self._replace(default=0)
            return [one.check(item) for item in value]
        if isinstance(self.kind, tuple):
            if value not in self.kind:
                raise ValueError(f"{value!r} is none of {', '.join(self.kind)}")
            return value
        try:
            return self.kind(str(value))
        except argparse.ArgumentTypeError as error:
            raise ValueError(str(error)) from None


_SIZE = number(int, 1, 10**6)
_COUNT = number(int, 1, 2**31)
_SHARE = number(float, 0, 0.9)
LEARNING_RATES = {name: lr for name, (_, lr) in _OPTIMIZERS.items()}
_RATES = ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items())

# Tuned on the digits: 98 % of the test part, in seconds.
SETTINGS = {
    "data": Setting(
        "digits",
        str,
        "digits, a directory of IDX files or of a directory of images for each class, FILE.csv or "
        "FILE.npz (digits)",
        "WHAT",
    ),
    "target": Setting(
        "-1", str, "CSV: name or number of the target column (-1, the last)", "COLUMN"
    ),
    "encode": Setting(
        [],
        encoding,
        "CSV: how a column of text, or one with missing cells, becomes numbers; onehot and ordinal "
        "take text, mean, median and zero fill missing numbers; such as city=onehot age=median "
        "(none)",
        "COLUMN=KIND",
    ),
    "task": Setting(
        None,
        ("classify", "regress"),
        "what the target is (classify for text or few whole numbers, else regress)",
    ),
    "model": Setting("mlp", ("mlp", "convnet"), "convnet: a residual network for images (mlp)"),
    "layers": Setting([128], _SIZE, "hidden sizes (128)", "N"),
    "activation": Setting("relu", ACTIVATIONS, "between the layers (relu)"),
    "loss": Setting(None, LOSSES, "(cross_entropy for classes, mse for values)"),
    "optimizer": Setting("adam", OPTIMIZERS, "(adam)"),
    "lr": Setting(
        None, number(float, 0, open_low=True), f"learning rate at the start ({_RATES})", "RATE"
    ),
    "schedule": Setting(
        "cosine",
        ("none", "cosine", "linear", "onecycle", "plateau"),
        "of the learning rate (cosine)",
    ),
    "warmup": Setting(
        0,
        number(int, 0, 2**31),
        "steps in which the learning rate first rises; for none, cosine and linear (0)",
        "N",
    ),
    "batch": Setting(32, _COUNT, "samples per step (32)", "N"),
    "epochs": Setting(30, _COUNT, "passes over the data (30)", "N"),
    "validation": Setting(
        None,
        _SHARE,
        "share of the samples outside the test part that is kept back to choose the best epoch "
        "(0.1, or 0 for fewer than 10 samples)",
        "SHARE",
    ),
    "patience": Setting(
        None,
        _COUNT,
        "stop after N epochs without a lower validation loss (no limit: all epochs are run)",
        "N",
    ),
    "min_delta": Setting(0.0, number(float, 0), "how much lower it must be to count (0)", "D"),
    "monitor": Setting(
        None,
        str,
        "what chooses the best epoch and counts for --patience, such as validation_f1 "
        "(validation_loss; without a validation part, train_loss)",
        "NAME",
    ),
    "metrics": Setting([], METRICS, "also of the validation and the test part (none)"),
    "class_weight": Setting(
        "none", ("none", "balanced"), "balanced: rare classes count as much as others (none)"
    ),
    "accumulate": Setting(1, _COUNT, "batches whose gradients make one step (1)", "N"),
    "shards": Setting(
        None,
        _COUNT,
        "parts of a batch, computed by the ranks of mpiexec; bits depend on it and not on the "
        "ranks (the number of ranks; without mpiexec, one step of the whole batch)",
        "N",
    ),
    "clip_grad_norm": Setting(
        None, number(float, 0, open_low=True), "largest norm of all gradients (no limit)", "NORM"
    ),
    "ema": Setting(
        None,
        number(float, 0, 0.999999, open_low=True),
        "decay, such as 0.999, of an average of the weights, to be judged and kept (none)",
        "DECAY",
    ),
    "precision": Setting(
        "strict",
        ("strict", "fp32", "fast", "bf16"),
        "of float32 products, as wengert.set_matmul_precision (strict)",
    ),
    "seed": Setting(0, number(int, 0, 2**63 - 1), "of the parts, weights and order (0)", "N"),
    "dtype": Setting("float32", ("float32", "float64"), "(float32)"),
    "weight_decay": Setting(0.0, number(float, 0), "pulls the weights to 0 (0)", "W"),
    "dropout": Setting(0.0, number(float, 0, 0.99), "after each hidden layer (0)", "P"),
    "width": Setting(16, number(int, 1, 10**4), "convnet: channels of its first stage (16)", "N"),
    "depth": Setting(1, number(int, 1, 100), "convnet: blocks in each of three stages (1)", "N"),
    "augment": Setting(
        [], tuple(CHANGES), "random changes of the images of each batch, in this order (none)"
    ),
    "size": Setting(32, number(int, 1, 10**4), "image folder: height and width (32)", "N"),
}
DEFAULTS: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
# What the data add to the settings; all of it is in the checkpoint, for predict and --resume.
DESCRIBED = (
    "features", "outputs", "classes", "columns", "encoders", "standardizer", "fraction", "image"
)  # fmt: skip
CHANGEABLE = ("epochs", "patience", "data")  # on a resume
# Settings that former versions did not note, as those versions trained.
ADDED: dict[str, Any] = {"validation": 0.0, "patience": None, "image": None}
ADDED |= {name: DEFAULTS[name] for name in ("model", "width", "depth", "augment", "size")}
ADDED |= {"encode": [], "encoders": []}
FITTED = ("min_delta", "monitor", "metrics", "accumulate", "clip_grad_norm", "ema", "precision")
ADDED |= {name: DEFAULTS[name] for name in ("warmup", "class_weight", "shards", *FITTED)}
# Settings of one kind of network only.
ONLY = {"mlp": ("layers", "activation", "dropout"), "convnet": ("width", "depth", "augment")}


def add_setting(parser: argparse.ArgumentParser, name: str, **other: Any) -> None:
    """The option of a setting; `other` is what a command has otherwise."""
    setting = SETTINGS[name]
    more: dict[str, Any] = {"type": setting.kind, "metavar": setting.metavar}
    if isinstance(setting.kind, tuple):
        more = {"choices": setting.kind}
    if isinstance(setting.default, list):
        more["nargs"] = "*"
    parser.add_argument("--" + name.replace("_", "-"), **{"help": setting.help, **more, **other})


def column(text: str) -> int | str:
    """--target: a number, or a name."""
    try:
        return int(text)
    except ValueError:
        return text


def build_model(config: dict[str, Any]) -> nn.Module:
    """The network that the settings describe."""
    from wengert import nn

    if config["model"] == "convnet":
        from wengert.models.convnet import ConvNet

        made = ConvNet(
            _channels(config["image"]), config["outputs"], config["width"], config["depth"]
        )
        return made.to(config["dtype"])
    sizes = [config["features"], *config["layers"], config["outputs"]]
    return nn.MLP(sizes, config["activation"], dropout=config["dropout"], dtype=config["dtype"])


def shaped(x: Any, config: dict[str, Any]) -> Any:
    """The rows of data as the network takes them: for a convnet, images (n, channels, H, W)."""
    if config["model"] == "mlp":
        return x
    from wengert.data.source import channels_last

    x = x.reshape(len(x), *config["image"])
    if x.ndim == 3:
        return x[:, None]
    return x.transpose(0, 3, 1, 2) if channels_last(x.shape[1:]) else x


def scaler_of(dataset: Any, config: dict[str, Any]) -> Any:
    """The standardizer of the data: for a convnet, one mean and deviation of all pixels."""
    from wengert.data import Standardizer

    if config["model"] == "convnet" and dataset.standardizer.mean.ndim:  # of each pixel
        return Standardizer.fit(dataset.parts.x_train, per_feature=False)
    return dataset.standardizer


def _channels(image: list[int]) -> int:
    from wengert.data.source import channels_last

    return 1 if len(image) == 2 else image[2 if channels_last(image) else 0]


def build_changes(config: dict[str, Any], x: Any) -> list[Any]:
    """The changes of images like x."""
    from wengert import data

    return [CHANGES[name](data, *x.shape[-2:]) for name in config["augment"]]


def _numbers(config: dict[str, Any]) -> int:
    """How many numbers the parameters and buffers of the network are."""
    outputs: int = config["outputs"]
    if config["model"] == "mlp":
        sizes = [config["features"], *config["layers"], outputs]
        return sum((a + 1) * b for a, b in pairwise(sizes))
    inputs: int = config["width"]
    total = 9 * _channels(config["image"]) * inputs
    for stage in range(3):
        for _ in range(config["depth"]):
            wide = config["width"] << stage
            total += (4 * inputs + 1) + 9 * inputs * wide + (4 * wide + 1) + 9 * wide * wide
            total += inputs * wide if inputs != wide else 0
            inputs = wide
    return total + (4 * inputs + 1) + (inputs + 1) * outputs


def build_loss(name: str) -> Loss:
    """loss(prediction, target) by its name on the command line."""
    import wengert

    if name == "cross_entropy":
        return wengert.cross_entropy
    reduction = "mean" if name == "mse" else "half_mean"
    return lambda prediction, target: wengert.mse_loss(prediction, target, reduction=reduction)


def build_optimizer(model: nn.Module, config: dict[str, Any]) -> Optimizer:
    """The optimizer that the settings describe, over all of the model's parameters."""
    from wengert import optim

    parameters, lr, decay = model.parameters(), config["lr"], config["weight_decay"]
    name = config["optimizer"]
    more = {"momentum": 0.9} if name == "momentum" else {}
    made: Optimizer = getattr(optim, _OPTIMIZERS[name][0])(
        parameters, lr=lr, weight_decay=decay, **more
    )
    return made


def read_config(checkpoint: str) -> dict[str, Any]:
    """The settings that `wengert train` noted in a checkpoint: each as the command line takes it,
    and all of a network as large as the one in the file."""
    import numpy as np

    from wengert.data import Encoder, Standardizer
    from wengert.io import load_checkpoint

    if not Path(checkpoint).is_file():
        raise UsageError(
            f"no checkpoint {checkpoint}; wengert train writes last.safetensors into its run"
        )
    found = load_checkpoint(checkpoint)
    config = found.extra.get("config") if isinstance(found.extra, dict) else None
    config = {**ADDED, **config} if isinstance(config, dict) else None
    if config is None or not {*DEFAULTS, *DESCRIBED} <= set(config):
        raise UsageError(
            f"{checkpoint} was not written by wengert train, so its network is not known"
        )
    at = ""
    try:
        for at, setting in SETTINGS.items():
            config[at] = setting.check(config[at])
        for at in ("features", "outputs"):
            config[at] = _COUNT(str(config[at]))
        at, made = "encoders", config["features"]
        for _, kind, values in config[at]:
            one = Encoder(kind, tuple(values))
            one.check()
            made -= len(one.names("")) - 1
        if any(place not in range(made) for place, *_ in config[at]):
            raise ValueError(f"{config[at]!r:.40} are not of {made} columns")
        for at, length in (("classes", config["outputs"]), ("columns", made)):
            names = config[at]
            if names is not None and not _is_names(names, length):
                raise ValueError(f"{names!r:.40} are not {length} names")
        at = "fraction"
        if not 0 < config[at] < 1:
            raise ValueError(f"{config[at]!r} is not between 0 and 1")
        at = "standardizer"
        scaler = Standardizer(**config[at])
        for array in (scaler.mean, scaler.scale):
            if array.shape not in ((), (config["features"],)) or np.isnan(array).any():
                raise ValueError(f"it has no number for each of {config['features']} features")
        at, image = "image", config["image"]
        if image is not None or config["model"] == "convnet":
            image = [_COUNT(str(n)) for n in image]
            if len(image) not in (2, 3) or math.prod(image) != config["features"]:
                raise ValueError(f"{image!r:.40} is no image of {config['features']} numbers")
        at = "layers" if config["model"] == "mlp" else "width"
        needed, there = _numbers(config), sum(tensor.numel() for tensor in found.model.values())
        if needed != there:
            raise ValueError(f"a network of these settings has {needed} numbers, the file {there}")
    except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
        raise UsageError(
            f"{checkpoint} was altered, or written by another version: its {at}: {error!s:.200}"
        ) from None
    return config


def _is_names(names: Any, length: int) -> bool:
    return (
        isinstance(names, list)
        and len(names) == length
        and all(isinstance(name, str) for name in names)
    )
