"""`wengert train`: a perceptron or a convolutional network on data, into a run's directory."""

from __future__ import annotations

import argparse
import json
import shlex
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError, complain, told
from .options import (
    CHANGEABLE,
    DEFAULTS,
    DESCRIBED,
    FITTED,
    LEARNING_RATES,
    ONLY,
    SETTINGS,
    TEST_FRACTION,
    add_setting,
    build_changes,
    build_loss,
    build_model,
    build_optimizer,
    column,
    encoders_of,
    number,
    read_config,
    scaler_of,
    shaped,
)

if TYPE_CHECKING:
    from wengert.data import Loaded
    from wengert.train import Result


def add_parser(commands: Any) -> None:
    """The command and its options."""
    import wengert

    train = commands.add_parser(
        "train",
        help="train a network (with no argument: on the 8x8 digits)",
        description="Train a multi-layer perceptron, or with --model convnet a network for images; "
        "with no argument, on the 8x8 digits. The default of each option is in brackets. A fifth "
        "of the samples is the test part (IDX files bring their own, as do folders of images with "
        "train and test), which is looked at once, at the end.",
        argument_default=argparse.SUPPRESS,  # so that --resume can tell what was asked for
    )
    add = train.add_argument
    for name in SETTINGS:
        add_setting(train, name)
    add(
        "--threads",
        type=number(int, 1, 256),
        metavar="N",
        help=f"number of threads ({wengert.num_threads()}: one a core, or WENGERT_THREADS)",
    )
    add(
        "--out",
        metavar="DIR",
        help="run directory (runs/NAME, then runs/NAME-2, ...; that of a resumed last.safetensors)",
    )
    add("--resume", metavar="CKPT", help="go on from a checkpoint, exactly where it stood (none)")
    add(
        "--workers",
        type=number(int, 0, 256),
        metavar="N",
        help="threads that prepare the next batches meanwhile (0)",
    )
    add("--device", metavar="NAME", help="where to train: cpu, cuda, cuda:1 (cpu)")
    add(
        "--log",
        nargs="*",
        choices=("csv", "tensorboard"),
        help="further logs in the run directory, beside metrics.jsonl (none)",
    )
    add("--quiet", action="store_true", help="print the result only (off)")
    train.set_defaults(run=train_command)


def train_command(arguments: argparse.Namespace) -> int:
    """wengert train"""
    import wengert
    from wengert import data, parallel
    from wengert.train import TrainingError, fit, report

    comm = parallel.world()
    given = {k: v for k, v in vars(arguments).items() if k in DEFAULTS}
    resume: str | None = getattr(arguments, "resume", None)
    quiet: bool = getattr(arguments, "quiet", False) or comm.rank > 0
    saved = read_config(resume) if resume else None
    config = _resumed(saved, given) if saved is not None else {**DEFAULTS, **given}
    config["lr"] = config["lr"] or LEARNING_RATES[config["optimizer"]]
    config["shards"] = _shards(config["shards"], comm.size, resume)
    if hasattr(arguments, "threads"):
        wengert.set_num_threads(arguments.threads)

    source = config["data"]
    kind = {None: "auto", "classify": "class", "regress": "value"}[config["task"]]
    dataset = data.load(
        source, column(config["target"]), kind, TEST_FRACTION, config["seed"], config["validation"],
        config["size"], encoders_of(config),
    )  # fmt: skip
    dataset = replace(dataset, standardizer=scaler_of(dataset, config))
    described = _described(config, dataset)
    if saved is not None and saved["image"] is None:
        described["image"] = None  # of a version that did not note it
    if saved is not None and any(saved[k] != described[k] for k in DESCRIBED):
        raise UsageError(
            f"{source} is not what {resume} was trained on; give that data, or train afresh"
        )
    config |= described

    wengert.manual_seed(config["seed"])
    model = build_model(config)
    if (device := getattr(arguments, "device", "cpu")) != "cpu":
        try:
            model.to(device)
        except wengert.DeviceError as error:
            raise UsageError(f"--device {device}: {error}") from None
    x_train = shaped(dataset.parts.x_train, config)
    batches = data.Batches(
        x_train,
        _targets(dataset.parts.y_train, config),
        config["batch"],
        seed=config["seed"],
        dtype=config["dtype"],
        transform=dataset.standardizer,
        augment=build_changes(config, x_train),
        workers=getattr(arguments, "workers", 0),
    )
    test = (shaped(dataset.parts.x_test, config), _targets(dataset.parts.y_test, config))
    kept, validation = dataset.validation, None
    if kept is not None:
        validation = (shaped(kept[0], config), _targets(kept[1], config))
    optimizer = build_optimizer(model, config)
    network: Any = model
    if config["shards"] is not None:
        network = parallel.DataParallel(model, config["shards"], comm)
    run_dir = Path()  # rank 0's
    if comm.rank == 0:
        run_dir = _run_directory(getattr(arguments, "out", None), resume, dataset.name)
    if not quiet:
        parameters = sum(p.numel() for p in model.parameters())
        sizes = [config["features"], *config["layers"], config["outputs"]]
        shape = "-".join(map(str, sizes))
        if config["model"] == "convnet":
            shape = f"of convolutions, {config['width']} wide and {config['depth']} deep"
        ranks = ""
        if config["shards"] is not None:
            ranks = (
                f"; {config['shards']} shards on {comm.size} ranks, "
                f"{wengert.num_threads()} threads each"
            )
        report.say(
            f"{report.plain(dataset.name)}: {len(batches.x)} samples to train on, "
            f"{len(kept[0]) if kept is not None else 0} to choose by, {len(test[0])} to test; "
            f"network {shape} ({parameters:,} parameters), {config['loss']}, "
            f"{config['optimizer']} with learning rate {config['lr']:g}{ranks}; {_shown(run_dir)}"
        )
    try:
        result = fit(
            network,
            build_loss(config["loss"]),
            optimizer,
            batches,
            epochs=config["epochs"],
            validation=validation,
            test=test,
            patience=config["patience"],
            schedule=_schedule(optimizer, config),
            warmup=config["warmup"],
            class_weight=None if config["class_weight"] == "none" else config["class_weight"],
            callbacks=[] if comm.rank else _loggers(getattr(arguments, "log", []), run_dir),
            **{name: config[name] for name in FITTED},
            classify=dataset.classes is not None,
            run_dir=run_dir,
            resume=resume,
            overwrite=False,
            config=config,
            quiet=quiet,
        )
    except TrainingError as error:
        complain("train", told(error))
        return 1
    if comm.rank:
        return 130 if result.interrupted else 0
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


def _shards(shards: int | None, ranks: int, resume: str | None) -> int | None:
    """How many, or None for a step of the whole batch. UsageError where they do not suit."""
    if shards is None and ranks > 1:
        if resume:
            raise UsageError(
                f"{resume} was trained without shards, so with one rank only; leave mpiexec out, "
                "or train afresh"
            )
        return ranks
    if shards is not None and shards < ranks:
        raise UsageError(
            f"--shards {shards} on {ranks} ranks would leave a rank without data; start "
            f"mpiexec -n {shards} or fewer"
        )
    return shards


def _described(config: dict[str, Any], dataset: Loaded) -> dict[str, Any]:
    """What the data add to the settings, the loss among it where none is asked for. UsageError
    where the settings do not suit the data."""
    source, model = config["data"], config["model"]
    for other in ("mlp", "convnet"):
        strange = [n for n in ONLY[other] if model != other and config[n] != DEFAULTS[n]]
        if strange:
            raise UsageError(f"--{strange[0]} is of --model {other} only; this is {model}")
    if model == "convnet" and dataset.image is None:
        raise UsageError(f"{source} holds no images, which --model convnet needs")
    if config["task"] == "regress" and dataset.classes is not None:
        raise UsageError(f"{source} holds classes, not values; leave --task out")
    loss = config["loss"] or ("mse" if dataset.classes is None else "cross_entropy")
    if dataset.classes is None and loss == "cross_entropy":
        raise UsageError(f"{source}: the target holds measured values, not classes; use --loss mse")
    if config["patience"] is not None and dataset.validation is None:
        raise UsageError(
            "--patience judges by the validation part, and there is none; give --validation 0.1"
        )
    if config["class_weight"] != "none" and loss != "cross_entropy":
        raise UsageError("--class-weight is for --loss cross_entropy")
    if config["warmup"] and config["schedule"] in ("onecycle", "plateau"):
        raise UsageError(f"--warmup is not for --schedule {config['schedule']}; leave it out")
    numbers = dataset.classes is None
    if wrong := [m for m in config["metrics"] if (m == "r2") != numbers]:
        kind = "values" if numbers else "classes"
        raise UsageError(f"--metrics {wrong[0]} does not suit a target of {kind}")
    return {
        "loss": loss,
        "features": dataset.features,
        "outputs": dataset.outputs,
        "classes": dataset.classes,
        "columns": dataset.columns,
        "encoders": [[i, e.kind, list(e.values)] for i, e in sorted(dataset.encoders.items())],
        "standardizer": dataset.standardizer.state_dict(),
        "fraction": TEST_FRACTION,
        "image": list(dataset.image) if dataset.image is not None else None,
    }


def _schedule(optimizer: Any, config: dict[str, Any]) -> Any:
    """What `fit` takes: a cosine without a warm-up falls after each epoch, as it always did."""
    from wengert.optim import CosineAnnealingLR

    name, warmup = config["schedule"], config["warmup"]
    if name == "cosine" and not warmup:
        return CosineAnnealingLR(optimizer, config["epochs"])
    if name == "none":
        return "constant" if warmup else None
    return name


def _loggers(names: list[str], run_dir: Path) -> list[Any]:
    from wengert.train import CSVLogger, TensorBoardLogger

    made: list[Any] = [CSVLogger(run_dir / "metrics.csv")] if "csv" in names else []
    return [*made, TensorBoardLogger(run_dir)] if "tensorboard" in names else made


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
    from wengert.train.report import plain

    return plain(shlex.quote(str(path)))


def _report(result: Result, dataset: Loaded, config: dict[str, Any], run_dir: Path) -> None:
    """The files of a finished run, and then its figures: what the test part says of the weights
    that the validation part chose."""
    import numpy as np

    from wengert.io import write_text
    from wengert.train import report

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
    figures = [f"{name} {(result.test or {})[f'test_{name}']:.4f}" for name in config["metrics"]]
    if figures:
        print(f"on the test part: {', '.join(figures)}")
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
