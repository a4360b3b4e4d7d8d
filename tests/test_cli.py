"""The command line's options, each by what it changes; its streams, whatever they are; and the
checkpoints that it is given, whatever they say."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert
from wengert import cli, data, io, optim, train
from wengert.cli import options as words
from wengert.data import frames
from wengert.io import load, load_metadata, save
from wengert.train import metrics as metrics_module
from wengert.train import report

NAMES = ("caf\u00e9", "\u5317\u4eac", "\x1b[31mred\x1b]0;owned\x07", "tab\there")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, with d.csv and e.csv: three features and a class, of 60 samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "curves", lambda *_: False)  # which costs more than the training
    monkeypatch.setattr(os, "fsync", lambda _: None)
    rng = np.random.default_rng(0)
    for name in ("d.csv", "e.csv"):
        x = rng.standard_normal((60, 3)).round(3)
        kind = (x[:, 0] + x[:, 1] > 0).astype(int)
        lines = [
            f"{a},{b},{c},{i % 3},{k}" for i, ((a, b, c), k) in enumerate(zip(x, kind, strict=True))
        ]
        Path(name).write_text("a,b,c,third,kind\n" + "\n".join(lines) + "\n")
    threads = wengert.num_threads()
    yield tmp_path
    wengert.set_num_threads(threads)


RUN = ["train", "--data", "d.csv", "--epochs", "3", "--layers", "5", "--quiet"]


def trained(out: str, *more: str) -> Path:
    assert cli.main([*RUN, "--out", out, *more]) == 0
    return Path(out)


def digest(run: Path) -> str:
    """Of the weights that the run ended with."""
    tensors = load(run / "last.safetensors")
    values = [tensors[name].numpy() for name in sorted(tensors) if name.startswith("model.")]
    return hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


# What makes another network than RUN does, and another than any other line makes. (AdamW without
# weight decay is Adam.)
CHANGES = [
    ["--data", "e.csv"],
    ["--target", "third"],
    ["--encode", "third=onehot"],
    ["--target", "-2", "--seed", "1"],
    ["--task", "regress"],
    ["--layers", "6"],
    ["--layers", "5", "4"],
    ["--layers"],
    *(["--activation", name] for name in cli.ACTIVATIONS if name != "relu"),
    *(["--loss", name] for name in cli.LOSSES if name != "cross_entropy"),
    *(["--optimizer", name] for name in cli.OPTIMIZERS if name not in ("adam", "adamw")),
    *(["--optimizer", name, "--weight-decay", "0.05"] for name in cli.OPTIMIZERS),
    *(["--optimizer", name, "--lr", "0.03"] for name in cli.OPTIMIZERS if name != "adamw"),
    *(["--schedule", name] for name in ("none", "linear", "onecycle")),
    *(["--schedule", name, "--warmup", "2"] for name in ("none", "cosine", "linear")),
    ["--schedule", "plateau", "--epochs", "40", "--lr", "0.3"],
    ["--accumulate", "2"],
    ["--shards", "3"],
    ["--clip-grad-norm", "0.1"],
    ["--class-weight", "balanced"],
    ["--epochs", "40", "--patience", "2", "--min-delta", "0.1"],
    ["--epochs", "40", "--patience", "2", "--metrics", "f1", "--monitor", "validation_f1"],
    ["--batch", "7"],
    ["--epochs", "4"],
    ["--epochs", "40", "--patience", "1", "--lr", "0.3"],
    ["--epochs", "40", "--patience", "4", "--lr", "0.3"],
    ["--validation", "0"],
    ["--validation", "0.3"],
    ["--seed", "5"],
    ["--dtype", "float64"],
    ["--dropout", "0.5"],
    ["--dropout", "0.25"],
]
BY_THEMSELVES = {"--help", "--threads", "--out", "--resume", "--quiet"}  # tests below
BY_THEMSELVES |= {"--model", "--width", "--depth", "--augment", "--size", "--workers"}
BY_THEMSELVES |= {"--device", "--log", "--ema", "--precision"}


def options(command: str) -> dict[str, argparse.Action]:
    parsers = next(a for a in cli.build_parser()._actions if a.dest == "command")
    assert isinstance(parsers.choices, dict)
    return {a.option_strings[-1]: a for a in parsers.choices[command]._actions if a.option_strings}


def test_every_option_of_train_changes_the_network(here: Path) -> None:
    found = {digest(trained("base")): ["(none)"], digest(trained("same", "--threads", "1")): []}
    assert len(found) == 1  # any number of threads, the same bits
    for i, more in enumerate(CHANGES):
        this = digest(trained(f"r{i}", *more))
        assert this not in found, f"{more} makes the network of {found[this]}"
        found[this] = more
    named = {option for more in CHANGES for option in more if option.startswith("--")}
    assert named | BY_THEMSELVES == set(options("train"))


def test_the_seed_is_that_of_the_parts_the_weights_and_the_order(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = ["--lr", "1e-30"]  # the weights stay what they were made as
    made = {digest(trained(f"r{seed}", *still, "--seed", seed)) for seed in "012"}
    assert len(made) == 3
    orders = []
    real = data.Batches
    monkeypatch.setattr(data, "Batches", lambda *a, **k: orders.append(k["seed"]) or real(*a, **k))
    trained("r", "--seed", "7")
    assert orders == [7]


def test_every_default_is_the_one_that_help_names(here: Path, capsys: Any) -> None:
    """What help says in brackets, given as options, changes nothing."""
    texts = {name: action.help or "" for name, action in options("train").items()}
    said = []
    for name, setting in cli.SETTINGS.items():
        option = "--" + name.replace("_", "-")
        if setting.default is not None:
            values = setting.default if isinstance(setting.default, list) else [setting.default]
            words = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
            assert f"({' '.join(words)}" in texts[option], option
            said += [option, *words]
    said += ["--lr", "0.005", "--validation", "0.1", "--loss", "cross_entropy"]
    assert "adam 0.005" in texts["--lr"] and "(0.1" in texts["--validation"]
    assert f"({wengert.num_threads()}:" in texts["--threads"]
    fixed = ["--data", "d.csv", "--out"]
    assert cli.main(["train", *said, *fixed, "said", "--quiet"]) == 0
    assert cli.main(["train", *fixed, "silent", "--quiet"]) == 0
    assert digest(Path("said")) == digest(Path("silent"))
    assert all("(" in text for name, text in texts.items() if name != "--help")
    for name, action in options("study").items():
        if action.default not in (None, False, argparse.SUPPRESS):
            default = action.default if isinstance(action.default, list) else [action.default]
            assert f"({default[0]}" in (action.help or ""), name
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0 and f"wengert {wengert.__version__}\n" in capsys.readouterr().out


def test_averages_metrics_and_logs(here: Path, capsys: Any) -> None:
    more = ["--ema", "0.9", "--metrics", "f1", "auc", "--warmup", "4", "--accumulate", "2"]
    more += ["--clip-grad-norm", "1", "--precision", "bf16", "--validation", "0"]
    run = trained("r", *more, "--log", "csv")
    out = capsys.readouterr().out
    said = re.search(r"test accuracy ([0-9.]+) %", out)
    assert said and re.search(r"on the test part: f1 0\.\d{4}, auc [01]\.\d{4}\n", out)
    summary = metrics(run)[-1]
    assert f"f1 {summary['test_f1']:.4f}, auc {summary['test_auc']:.4f}" in out
    rows = (run / "metrics.csv").read_text().splitlines()
    assert len(rows) == 4 and rows[0].startswith("epoch,step,train_loss")
    assert cli.main(["predict", "r/last.safetensors", "d.csv"]) == 0
    whole = capsys.readouterr().out
    tensors = load(run / "last.safetensors")
    assert "averaged.module.0.weight" in tensors
    trained("part", *more, "--epochs", "2")
    resumed = ["train", "--resume", "part/last.safetensors", "--epochs", "3", "--quiet"]
    assert cli.main([*resumed, "--out", "rest"]) == 0
    capsys.readouterr()
    assert cli.main(["predict", "rest/last.safetensors", "d.csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(whole.splitlines()) == 61
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    run = trained("t", "--log", "tensorboard")
    assert list(run.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--class-weight", "balanced", "--loss", "mse"], "--class-weight is for --loss cross_ent"),
        (["--warmup", "3", "--schedule", "onecycle"], "--warmup is not for --schedule onecycle"),
        (["--metrics", "r2"], "--metrics r2 does not suit a target of classes"),
        (["--monitor", "validation_f1"], "monitor is 'validation_f1', and an epoch has epoch"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_options_that_do_not_go_together(
    here: Path, capsys: Any, arguments: list[str], says: str
) -> None:
    assert cli.main([*RUN, *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


@pytest.mark.skipif(wengert.cuda.is_available(), reason="a GPU is here")
def test_a_device_that_is_not_there(here: Path, capsys: Any) -> None:
    assert cli.main([*RUN, "--device", "cuda"]) == 2
    assert "cuda" in capsys.readouterr().err
    assert cli.main([*RUN, "--device", "cpu"]) == 0


@pytest.fixture
def images(here: Path) -> list[str]:
    """photos/train and photos/test with two classes, and how a convnet is trained on them."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 5)):
        for at, name in enumerate(("dark", "light")):
            folder = Path("photos", part, name)
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(120 * at, 130 + 120 * at, (9, 12, 3)).astype(np.uint8)
                image.fromarray(pixels).save(folder / f"{i:02}.png")
    size = ["--size", "8", "--width", "2", "--batch", "8", "--validation", "0.25"]
    return ["--data", "photos", "--model", "convnet", *size]


def test_convnet_of_an_image_folder(images: list[str], capsys: Any) -> None:
    """Its test part is its own; a run that was broken off goes on as one that was not."""
    augment = ["--augment", "crop", "flip", "rotate", "erase"]
    whole = trained("whole", *images, *augment, "--layers", "128", "--workers", "2")
    first = trained("first", *images, *augment, "--layers", "128", "--epochs", "2")
    assert cli.main(["train", "--resume", str(first / "last.safetensors"), "--epochs", "3"]) == 0
    assert digest(first) != digest(whole)  # cosine over 2 epochs
    assert cli.main([*RUN[:1], *images, *augment, "--epochs", "3", "--schedule", "none",
                     "--out", "a", "--quiet"]) == 0  # fmt: skip
    assert cli.main([*RUN[:1], *images, *augment, "--epochs", "1", "--schedule", "none",
                     "--out", "b", "--quiet"]) == 0  # fmt: skip
    resume = ["train", "--resume", "b/last.safetensors", "--epochs", "3", "--quiet"]
    assert cli.main([*resume, "--workers", "3"]) == 0
    assert digest(Path("a")) == digest(Path("b"))
    capsys.readouterr()
    said = {}
    Path("loose").mkdir()
    for name in ("dark", "light"):
        Path("loose", f"{name}.png").write_bytes(Path("photos/test", name, "00.png").read_bytes())
    for what in ("photos", "photos/test", "loose", "photos/test/light/00.png"):
        assert cli.main(["predict", "a/best.safetensors", what]) == 0
        out, err = capsys.readouterr()
        said[what] = [line.split("\t")[1:] for line in out.splitlines()[1:]]
        assert ("of 10)" in err) == (what in ("photos", "photos/test"))
    assert len(said["photos"]) == 10 and said["photos"] == said["photos/test"]
    assert said["loose"] == [said["photos"][0], said["photos"][5]]
    assert said["photos/test/light/00.png"] == [said["photos"][5]]


def test_every_option_of_a_convnet_changes_it(images: list[str]) -> None:
    kept = [*RUN[:1], *images, "--epochs", "2", "--quiet", "--out"]
    found: dict[str, list[str]] = {}
    for i, more in enumerate(
        [[], ["--width", "3"], ["--depth", "2"], ["--size", "9"], ["--augment", "crop"],
         ["--augment", "flip"], ["--augment", "flip", "crop"], ["--augment", "rotate"],
         ["--augment", "erase"], ["--dtype", "float64"]]
    ):  # fmt: skip
        assert cli.main([*kept, f"r{i}", *more]) == 0
        this = digest(Path(f"r{i}"))
        assert this not in found, f"{more} makes the network of {found[this]}"
        found[this] = more
    assert cli.main([*kept, "mlp", "--model", "mlp", "--width", "16"]) == 0  # images for it, too


def test_convnet_of_arrays(here: Path, capsys: Any) -> None:
    """Channels first or last; grey images have none. The digits are 8 by 8."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 3, 6, 5)).astype(np.uint8), np.arange(40) % 2
    np.savez("first.npz", x=x, y=y)
    np.savez("last.npz", x=x.transpose(0, 2, 3, 1), y=y)
    np.savez("grey.npz", x=x[:, 0], y=rng.standard_normal(40))
    short = ["train", "--model", "convnet", "--width", "2", "--epochs", "1", "--quiet"]
    for name in ("first", "last", "grey"):
        assert cli.main([*short, "--data", f"{name}.npz", "--out", name]) == 0
        assert cli.main(["predict", f"{name}/last.safetensors", f"{name}.npz"]) == 0
    assert digest(Path("first")) == digest(Path("last")) != digest(Path("grey"))
    assert cli.main([*short, "--out", "digits", "--batch", "256"]) == 0
    assert cli.main(["predict", "digits/last.safetensors", "digits"]) == 0
    capsys.readouterr()
    for wrong, says in (
        (["--data", "d.csv", "--model", "convnet"], "holds no images"),
        (["--width", "4"], "--width is of --model convnet only"),
        (["--model", "convnet", "--layers", "5"], "--layers is of --model mlp only"),
        (["--resume", "first/last.safetensors", "--model", "mlp", "--epochs", "2"], "convnet"),
    ):
        assert cli.main(["train", *wrong]) == 2
        assert says in capsys.readouterr().err
    assert cli.main(["predict", "first/last.safetensors", "d.csv"]) == 2
    capsys.readouterr()
    tensors = load("first/last.safetensors")
    said = json.loads(load_metadata(Path("first/last.safetensors"))["checkpoint"])
    Path("lie").mkdir()
    for key, value in (("model", "mlp"), ("model", 5), ("width", 10**4), ("width", "x"),
                       ("depth", 7), ("image", None), ("image", [90]), ("image", [2**40, 3]),
                       ("image", [3, "x"]), ("image", [3, 3, 10]), ("image", [0, 6, 5]),
                       ("augment", ["bogus"]), ("augment", "crop"), ("size", 0)):  # fmt: skip
        lie = copy.deepcopy(said)
        lie["extra"]["config"][key] = value
        save("lie/last.safetensors", tensors, {"checkpoint": json.dumps(lie)})
        for command in (["train", "--resume", "lie/last.safetensors", "--epochs", "5"],
                        ["predict", "lie/last.safetensors", "first.npz"]):  # fmt: skip
            code, error = cli.main(command), capsys.readouterr().err
            harmless = key == "image" and value == [3, 3, 10] and command[0] == "predict"
            assert harmless or (code == 2 and len(error.splitlines()) == 1), (key, value, error)


def test_optimizers_are_made_as_asked(here: Path) -> None:
    kinds = {
        "sgd": (optim.SGD, {"momentum": 0.0}),
        "momentum": (optim.SGD, {"momentum": 0.9}),
        "adam": (optim.Adam, {}),
        "adamw": (optim.AdamW, {}),
        "rmsprop": (optim.RMSprop, {}),
        "adagrad": (optim.Adagrad, {}),
        "adamax": (optim.Adamax, {}),
        "nadam": (optim.NAdam, {}),
        "radam": (optim.RAdam, {}),
        "lion": (optim.Lion, {}),
        "lamb": (optim.LAMB, {}),
    }
    assert set(kinds) == set(cli.OPTIMIZERS)
    for name, (kind, more) in kinds.items():
        config = {**cli.DEFAULTS, "features": 2, "outputs": 2, "optimizer": name}
        config |= {"lr": 0.25, "weight_decay": 0.5}
        made = cli.build_optimizer(cli.build_model(config), config)
        assert type(made) is kind
        wanted = {"lr": 0.25, "weight_decay": 0.5, **more}
        assert {key: made.param_groups[0][key] for key in wanted} == wanted


@pytest.mark.smoke
def test_threads_out_and_quiet(here: Path, capsys: Any) -> None:
    for n in (1, 2):
        trained(f"r{n}", "--threads", str(n))
        assert wengert.num_threads() == n
    assert (here / "r1" / "last.safetensors").exists() and not (here / "runs").exists()
    quiet = capsys.readouterr().out
    assert "epoch 1/3" not in quiet and "test accuracy" in quiet
    loud = [text for text in RUN if text != "--quiet"]
    assert cli.main(loud) == cli.main(loud) == 0
    out = capsys.readouterr().out
    assert out.count("epoch 1/3") == 2
    assert "43 samples to train on, 5 to choose by, 12 to test" in out
    assert [path.name for path in sorted(Path("runs").iterdir())] == ["d", "d-2"]


def test_the_report_says_which_part_each_number_is_from(here: Path, capsys: Any) -> None:
    chance = ["--target", "third", "--lr", "0.1", "--schedule", "none"]  # nothing to be learned
    run = trained("r", "--epochs", "20", "--patience", "4", *chance)
    out = capsys.readouterr().out
    *lines, summary = metrics(run)
    best = min(lines, key=lambda line: line["validation_loss"])
    assert summary["best_epoch"] == summary["tested_epoch"] == best["epoch"] < len(lines)
    assert len(lines) == best["epoch"] + 4 < 20
    assert f"test accuracy {100 * summary['test_accuracy']:.2f} %" in out
    assert (
        f"with the weights of epoch {best['epoch']}, the best (validation loss "
        f"{best['validation_loss']:.4f}, accuracy {100 * best['validation_accuracy']:.2f} %)"
    ) in out
    assert f"trained {len(lines)} epochs" in out and "; 4 without a lower validation loss" in out
    right = f"accuracy {100 * summary['test_accuracy']:.2f} %"
    assert "wengert predict r/best.safetensors d.csv" in out and right in out
    x, y = data.load("d.csv", "third", seed=0).parts[2:]
    config = cli.read_config("r/best.safetensors")
    model = cli.build_model(config)
    io.load_checkpoint("r/best.safetensors", model=model)
    outputs = train.predict(model, x, transform=data.Standardizer(**config["standardizer"]))
    assert train.right_answers(outputs, y) / len(y) == summary["test_accuracy"]
    trained("all", "--validation", "0")
    out = capsys.readouterr().out
    assert "with the weights of the last epoch" in out and "predict all/last.safetensors" in out
    assert not any("validation_loss" in line for line in metrics(Path("all")))
    assert cli.main([*RUN, "--validation", "0", "--patience", "2"]) == 2
    assert "there is none; give --validation 0.1" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.smoke
def test_resume_keeps_the_parts(here: Path, capsys: Any) -> None:
    split = ["--validation", "0.3", "--seed", "4", "--schedule", "none", "--dropout", "0.2"]
    split += ["--target", "third", "--lr", "0.1"]
    whole = trained("whole", *split, "--epochs", "6")
    trained("parts", *split)
    resume = ["train", "--quiet", "--resume", "parts/last.safetensors", "--epochs", "6"]
    for more in (["--validation", "0.2"], ["--validation", "0"], ["--seed", "1"]):
        assert cli.main([*resume, *more]) == 2
        assert "differs from the checkpoint's" in capsys.readouterr().err
    assert cli.main(resume) == 0
    clock = {"seconds", "samples_per_second"}
    a, b = ([{k: v for k, v in m.items() if k not in clock} for m in metrics(r)]
            for r in (whole, Path("parts")))  # fmt: skip
    assert a == b and digest(whole) == digest(Path("parts"))
    assert metrics(whole)[-1]["best_epoch"] < 6
    capsys.readouterr()
    assert cli.main([*resume[:-1], "40", "--patience", "1"]) == 2
    assert "ask for a greater patience" in capsys.readouterr().err
    assert cli.main([*resume[:-1], "40", "--patience", "9"]) == 0
    assert len(metrics(Path("parts"))) < 40


def test_few_samples_have_no_validation_part(here: Path, capsys: Any) -> None:
    for rows, kept in ((2, 0), (11, 0), (12, 1)):  # of which a fifth, or one, is the test part
        Path("few.csv").write_text("x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(rows)))
        assert cli.main(["train", "--data", "few.csv", "--epochs", "1", "--out", f"r{rows}"]) == 0
        assert f", {kept} to choose by, " in capsys.readouterr().out
    assert cli.main(["train", "--data", "few.csv", "--epochs", "1", "--validation", "0.5"]) == 0
    assert ", 4 to choose by, " in capsys.readouterr().out


# streams


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    wengert_ = f"'{sys.executable}' -m wengert"
    return subprocess.run(
        ["bash", "-c", line.replace("wengert", wengert_, 1)],
        cwd=cwd, capture_output=True, text=True, timeout=120, encoding="utf-8",
        env={**os.environ, **environment},
    )  # fmt: skip


def odd_names(folder: Path) -> None:
    rows = "".join(f"{i % 4},{i},{NAMES[i % 4]}\n" for i in range(80))
    (folder / "odd.csv").write_text("x,w,label\n" + rows, encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("wengert train --data odd.csv --epochs 2 --out r", 0, ""),
        ("wengert train --data odd.csv --epochs 2 --out r >&-", 0, ""),
        ("wengert train --data odd.csv --epochs 2 --out r >&- 2>&- <&-", 0, ""),
        (
            "wengert train --data odd.csv --epochs 2 --out r > /dev/full",
            2,
            "standard output: No sp",
        ),
        ("wengert train --data odd.csv --epochs 2 --out r | true; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
def test_training_ends_whatever_its_terminal(
    tmp_path: Path, line: str, code: int, error: str
) -> None:
    odd_names(tmp_path)
    done = shell(line, tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == code, done.stderr
    assert error in done.stderr and done.stderr.count("\n") == bool(error)
    assert len(metrics(tmp_path / "r")) == 3
    assert (tmp_path / "r" / "confusion.json").exists()
    if not error and ">" not in line and "|" not in line:
        assert "caf\\xe9" in done.stdout and "\\u5317" in done.stdout
        assert "\x1b" not in done.stdout


ENCODE = {"city": "onehot", "age": "median", "job": "ordinal"}


def test_the_words_of_options_are_the_library_s() -> None:
    """Written out in options.py, which imports neither module."""
    assert words.ENCODINGS == frames.KINDS
    assert tuple(metrics_module.METRICS) == words.METRICS


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("target", [0, 3])
def test_text_and_missing_cells_by_stated_encoders(
    here: Path, capsys: Any, header: bool, target: int
) -> None:
    """A file with text and empty cells is trained on, and predict encodes as training did: columns
    in any order where they have names, with and without the target."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(200):
        city, age = rng.choice(["Bonn", "Oslo", "Ulm"]), int(rng.integers(20, 70))
        cells = [str(city), "" if rng.random() < 0.1 else str(age), str(rng.choice(["1", "2b"]))]
        rows.append([*cells[:target], "yn"[(city == "Ulm") ^ (age > 45)], *cells[target:]])
    names = list(ENCODE)
    named = [*names[:target], "kind", *names[target:]]
    said = [f"{name if header else named.index(name)}={kind}" for name, kind in ENCODE.items()]

    def write(name: str, head: list[str], rows: list[list[str]]) -> None:
        Path(name).write_text("\n".join(map(",".join, [head, *rows] if header else rows)) + "\n")

    write("t.csv", named, rows)
    run = ["train", "--data", "t.csv", "--target", str(target), "--quiet", "--out", "t"]
    assert cli.main([*run, "--encode", *said]) == 0
    if target == 3:  # the last column, which study takes
        assert cli.main(["study", "--data", "t.csv", "--encode", *said, "--list"]) == 0
    best = "t/best.safetensors"
    capsys.readouterr()

    def predicted(file: str) -> list[str]:
        assert cli.main(["predict", best, file]) == 0
        return capsys.readouterr().out.splitlines()

    whole = predicted("t.csv")
    right = [line.split("\t")[1] == row[target] for line, row in zip(whole[1:], rows, strict=True)]
    assert np.mean(right) > 0.9
    features = [[c for i, c in enumerate(row) if i != target] for row in rows]
    write("x.csv", names, features)
    assert predicted("x.csv") == whole
    write("one.csv", names, [["Ulm", "", "1"]])  # alone, each column would look like another kind
    write("two.csv", names, [["Ulm", "", "1"], ["Oslo", "30", "2b"]])
    assert predicted("one.csv") == predicted("two.csv")[:2]
    if header:
        write("turned.csv", names[::-1], [row[::-1] for row in features])
        assert predicted("turned.csv") == whole
    for row, says in (
        (["Rome", "30", "1"], "'Rome' in line ., which the encoder does not know; it knows Bonn"),
        (["Ulm", "old", "1"], r"line ., column 2 .*'old' is not a finite number"),
    ):
        write("wrong.csv", names, [row])
        assert cli.main(["predict", best, "wrong.csv"]) == 2
        assert re.search(says, capsys.readouterr().err)
    assert cli.main([*run[:-1], "u"]) == 2
    way_out = f"--encode {'city' if header else named.index('city')}=onehot"
    assert way_out in capsys.readouterr().err
    resume = ["train", "--resume", "t/last.safetensors", "--epochs", "31", "--quiet"]
    assert cli.main([*resume, "--encode", *said]) == 0
    assert cli.main([*resume, "--encode", "city=ordinal"]) == 2


def test_what_fills_a_gap_is_learned_from_the_training_part(here: Path) -> None:
    ages = [float(i) for i in range(50)]
    rows = [f"{age:g},{i % 2}" if i else "NA,0" for i, age in enumerate(ages)]
    Path("f.csv").write_text("age,kind\n" + "\n".join(rows) + "\n")
    found = data.load("f.csv", validation=0.2, encoders={"age": "mean"})
    assert found.validation is not None
    train, *others = found.parts.x_train, found.parts.x_test, found.validation[0]
    fill = found.encoders[0].values[0]
    known = np.concatenate([x[x % 1 == 0] for x in (train, *others)])
    assert fill in np.concatenate([train, *others]) and fill != known.mean()
    if fill in train:
        train = np.delete(train, train[:, 0].tolist().index(fill))
    assert train.mean() == fill


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["third=hash"], "third=hash will not do; it must be COLUMN=KIND, KIND one of onehot"),
        (["third"], "third will not do; it must be COLUMN=KIND"),
        (["fourth=onehot"], "d.csv has no column named 'fourth'; columns: a, b, c, third, kind"),
        (["9=onehot"], "d.csv has 5 columns, no column number 9"),
        (["third=onehot", "third=ordinal"], "names a column twice"),
        (["kind=onehot"], "an encoder is given for 'kind', which is no feature"),
    ],
)
def test_encoders_that_do_not_suit(here: Path, capsys: Any, said: list[str], message: str) -> None:
    try:
        assert cli.main(["train", "--data", "d.csv", "--encode", *said]) == 2
    except SystemExit as end:  # of argparse
        assert end.code == 2
    assert message in capsys.readouterr().err


def test_encoders_are_for_csv_files(here: Path, capsys: Any) -> None:
    assert cli.main(["train", "--encode", "a=onehot"]) == 2
    assert (
        "digits: encoders (--encode) are for the columns of a CSV file" in capsys.readouterr().err
    )


@pytest.mark.smoke
def test_predict_says_how_far_off_the_values_are(here: Path, capsys: Any) -> None:
    y = np.arange(20.0) / 3
    np.savez("v.npz", x=y[:, None] ** 2, y=y)
    Path("v.csv").write_text("".join(f"{v**2},{v}\n" for v in y))
    Path("x.csv").write_text("".join(f"{v**2}\n" for v in y))
    assert cli.main(["train", "--data", "v.csv", "--epochs", "2", "--quiet", "--out", "v"]) == 0
    for file in ("v.csv", "v.npz", "x.csv"):
        capsys.readouterr()
        assert cli.main(["predict", "v/last.safetensors", file]) == 0
        out, err = capsys.readouterr()
        values = [float(line.split("\t")[1]) for line in out.splitlines()[1:]]
        if file == "x.csv":
            assert not err
            continue
        told = re.fullmatch(r"error (\S+) \(root mean square, 20 rows\)\n", err)
        assert told is not None
        assert float(told[1]) == pytest.approx(np.sqrt(((values - y) ** 2).mean()), rel=1e-3)


def test_streams_of_the_other_commands(here: Path) -> None:
    odd_names(here)
    assert cli.main([*RUN, "--data", "odd.csv", "--out", "r"]) == 0
    predict = "wengert predict r/last.safetensors odd.csv"
    done = shell(predict, here, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 81
    assert all(line.isascii() and line.count("\t") == 2 for line in done.stdout.splitlines())
    for end, code in (("| head -1; exit ${PIPESTATUS[0]}", 0), (">&-", 0), ("> /dev/full", 2)):
        done = shell(f"{predict} {end}", here)
        assert done.returncode == code and "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    done = shell("wengert --help > /dev/full", here)
    assert "Exception ignored" not in done.stderr


def test_names_do_not_reach_the_terminal_raw(here: Path, capsys: Any) -> None:
    odd_names(here)
    assert cli.main([*RUN, "--data", "odd.csv", "--out", "r\x1b[2J"]) == 0
    assert cli.main(["predict", "r\x1b[2J/last.safetensors", "odd.csv"]) == 0
    assert cli.main(["predict", "r\x1b[2J/last.safetensors", "no\x1b[2J.csv"]) == 2
    assert cli.main(["train", "--resume", "no\x1b[2J"]) == 2
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "\x1b" not in text and "\x07" not in text and "\\x1b[31mred" in text
    assert "tab\\there" in text and "caf\u00e9" in text and "\u5317\u4eac" in text


@pytest.mark.smoke
def test_plain() -> None:
    assert report.plain("caf\u00e9 \u3000\u5317") == "caf\u00e9 \u3000\u5317"
    assert report.plain("a\nb\tc", keep="\n") == "a\nb\\tc"
    assert report.plain("\u202eabc\udcff\x9b\u2028") == "\\u202eabc\\udcff\\x9b\\u2028"


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.npz", "pipe"])
def test_a_pipe_is_no_file(here: Path, capsys: Any, name: str) -> None:
    os.mkfifo(name)
    run = trained("r")
    Path("folder").mkdir()
    os.mkfifo("folder/train-images-idx3-ubyte")
    for arguments in (
        ["train", "--data", name],
        ["train", "--data", "folder"],
        ["train", "--resume", name],
        ["predict", str(run / "last.safetensors"), name],
        ["predict", name, "d.csv"],
        ["study", name],
        ["study", "--load", name],
        ["study", "--data", name],
        ["embed", "a", "b", "--model", name],
    ):
        assert cli.main(arguments) == 2, arguments
        assert len(capsys.readouterr().err.splitlines()) == 1


# checkpoints that do not tell the truth


def lies() -> list[tuple[str, Any]]:
    """A place in the checkpoint's JSON, and what it says there."""
    config: dict[str, list[Any]] = {
        "optimizer": ["bogus", None, 5],
        "loss": ["bogus", 5],
        "activation": ["bogus", []],
        "layers": [[10**9], [2**40] * 2, ["a"], None, 5, [64] * 20000, [5, 5], [True]],
        "features": ["x", -1, 0, 2.5, 10**12, None],
        "outputs": [0, 7, "x"],
        "classes": [5, [], ["a"], [1, 2], {"a": 1, "b": 2}],
        "columns": [3, ["a"], [None] * 4],
        "encode": [5, ["a"], ["a=hash"]],
        "encoders": [5, None, [1], [["x", "onehot", ["a"]]], [[9, "onehot", ["a"]]],
                     [[0, "onehot", ["a", "b"]]], [[0, "hash", ["a"]]], [[0, "mean", [None]]],
                     [[0, "ordinal", []]], [[0, "ordinal", [[]]]]],
        "dtype": ["int32", 5, "bfloat16"],
        "seed": ["x", -1, 2**70, None],
        "fraction": [2, 0, None, "x", float("nan")],
        "validation": [2, "x", -1],
        "patience": [0, "x"],
        "batch": [0, "x", 10**12],
        "epochs": [0, "x"],
        "standardizer": [{}, {"evil": 1}, 5, {"mean": "x", "scale": None}, None,
                         {"mean": [1.0], "scale": [1.0]}, {"mean": None, "scale": 1.0}],
        "dropout": [5, "x", 1.0],
        "lr": ["x", float("nan"), 0, -1],
        "schedule": [7, None],
        "task": ["bogus"],
        "weight_decay": ["x", float("inf")],
    }  # fmt: skip
    return [(f"extra.config.{key}", value) for key, values in config.items() for value in values]


POSITIONS: list[tuple[str, Any]] = [
    ("extra.fit", None), ("extra.fit", 5), ("extra.fit", {}), ("extra.fit", []),
    *((f"extra.fit.{key}", value) for key in ("epoch", "batch", "step", "samples", "best_epoch")
      for value in ("x", -1, 1e300, 2**80, True)),
    ("extra.fit.samples", 10), ("extra.fit.batch", 2), ("extra.fit.loss_sum", None),
    ("extra.fit.best_loss", "x"), ("extra.fit.seconds", float("inf")), ("extra.fit.bogus", 1),
    ("optimizer", 5), ("optimizer", None), ("optimizer.param_groups", 5),
    ("optimizer.param_groups", [{}]), ("optimizer.param_groups.0.lr", "x"),
    ("optimizer.param_groups.0.params", [99]), ("optimizer.class", "SGD"),
    ("step", "x"), ("format", 2), ("scheduler", 5),
]  # fmt: skip


def test_lying_checkpoints(here: Path, capsys: Any) -> None:
    file = trained("r") / "last.safetensors"
    tensors, said = load(file), json.loads(load_metadata(file)["checkpoint"])
    Path("lie").mkdir()
    for place, value in [*lies(), ("extra", 5), ("extra", {}), ("extra.config", []), *POSITIONS]:
        lie = copy.deepcopy(said)
        *way, last = place.split(".")
        at = lie
        for key in way:
            at = at[int(key) if key.isdigit() else key]
        at[last] = value
        save("lie/last.safetensors", tensors, {"checkpoint": json.dumps(lie)})
        commands = [["train", "--resume", "lie/last.safetensors", "--epochs", "5"]]
        if (place, value) not in POSITIONS and "epochs" not in place:
            commands.append(["predict", "lie/last.safetensors", "d.csv"])
        for command in commands:
            code = cli.main(command)
            error = capsys.readouterr().err
            assert code == 2 and len(error.splitlines()) == 1, (place, value, command, error)
            assert "lie/last.safetensors" in error, error
            assert len(error) < 400
    assert [path.name for path in Path("lie").iterdir() if path.suffix] == ["last.safetensors"]


def test_checkpoints_of_the_version_before_validation_parts(here: Path, capsys: Any) -> None:
    """They go on as they began, without one, and judge nothing by the loss that chose then."""
    now = ["--validation", "0", "--schedule", "none"]
    whole = trained("whole", *now, "--epochs", "5")
    former = trained("former", *now)
    for name in ("last", "best"):
        file = former / f"{name}.safetensors"
        tensors, said = load(file), json.loads(load_metadata(file)["checkpoint"])
        for key in ("validation", "patience"):
            del said["extra"]["config"][key]
        del said["extra"]["fit"]["best_epoch"]
        said["extra"]["fit"]["best_loss"] = 1e-9
        save(file, tensors, {"checkpoint": json.dumps(said)})
    assert cli.main(["predict", "former/last.safetensors", "d.csv"]) == 0
    resume = ["train", "--quiet", "--resume", "former/last.safetensors", "--epochs", "5"]
    assert cli.main(resume) == 0
    assert digest(whole) == digest(former)
    assert metrics(former)[-1]["best_epoch"] in (4, 5)


@pytest.mark.parametrize("change", ["missing", "renamed", "reshaped", "dtype"])
def test_checkpoints_with_other_tensors(here: Path, capsys: Any, change: str) -> None:
    file = trained("r") / "last.safetensors"
    tensors, said = load(file), load_metadata(file)
    name = next(name for name in tensors if name.startswith("model."))
    value = tensors.pop(name)
    if change == "renamed":
        tensors["model.other"] = value
    elif change == "reshaped":
        tensors[name] = value.reshape(-1)
    elif change == "dtype":
        tensors[name] = value.to("int64")
    save("other.safetensors", tensors, said)
    for command in (["predict", "other.safetensors", "d.csv"],
                    ["train", "--resume", "other.safetensors", "--epochs", "9"]):  # fmt: skip
        assert cli.main(command) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_faults_of_ours_are_not_hidden(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise KeyError("x")

    monkeypatch.setattr(wengert, "simd_level", broken)
    with pytest.raises(KeyError):
        cli.main(["info"])


@pytest.mark.smoke
def test_errors_say_a_word_once(here: Path, capsys: Any) -> None:
    checks: list[tuple[list[str], str]] = [
        (["study", "none.py"], "wengert study: error: no script none.py"),
        (["study", "--drill", "x"], "wengert study: error: no drill 'x'"),
        (["predict", "none", "d.csv"], "wengert predict: error: no checkpoint none"),
    ]
    for command, says in checks:
        assert cli.main(command) == 2
        assert capsys.readouterr().err.startswith(says)


def test_a_full_memory_is_one_line(
    here: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Callable[..., Any]:
        raise MemoryError

    monkeypatch.setattr(cli.train, "build_model", full)
    assert cli.main(RUN) == 2
    assert capsys.readouterr().err == "wengert train: error: not enough memory\n"
    assert not Path("runs").exists()
