"""`wengert train`, `predict` and `info` as a user runs them, and `fit` beneath: results, files,
resuming, Ctrl-C, divergence, and one clear line for whatever was asked wrongly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert
from wengert import nn, optim, report
from wengert.data import Batches
from wengert.io import load, save_checkpoint
from wengert.train import TrainingError, fit

FAST = ["--layers", "16", "--epochs", "2", "--quiet"]


def cli(*arguments: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wengert", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def numbers(run: Path) -> list[dict[str, Any]]:
    """The epochs without what depends on the clock."""
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "samples_per_second")}
        for line in metrics(run)
        if not line.get("summary")
    ]


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in load(checkpoint).items()}


def assert_same_weights(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys() and left
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


# the main job


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """`wengert train` with no argument, in an empty directory."""
    where = tmp_path_factory.mktemp("default")
    return where, cli("train", cwd=where).stdout


def test_default_run_learns_the_digits(default_run: tuple[Path, str]) -> None:
    where, out = default_run
    run = where / "runs" / "digits-1"
    found = re.search(r"test accuracy ([0-9.]+) % \((\d+) of (\d+)\)", out)
    assert found and float(found[1]) >= 97.0
    for name in (
        "config.json",
        "metrics.jsonl",
        "last.safetensors",
        "best.safetensors",
        "confusion.json",
    ):
        assert (run / name).stat().st_size > 0, name
    lines = metrics(run)
    assert [line["epoch"] for line in lines[:-1]] == list(range(1, 31))
    assert lines[-1]["summary"] and lines[-1]["last"]["test_accuracy"] == pytest.approx(
        float(found[1]) / 100, abs=1e-4
    )
    config = json.loads((run / "config.json").read_text())
    assert config["layers"] == [128] and config["seed"] == 0
    counts = np.array(json.loads((run / "confusion.json").read_text())["counts"])
    assert counts.sum() == int(found[3]) and np.trace(counts) == int(found[2])
    assert len(re.findall(r"^epoch +\d+/30 ", out, flags=re.M)) == 30  # no terminal: plain lines


def test_curves_picture(default_run: tuple[Path, str]) -> None:
    where, out = default_run
    picture = where / "runs" / "digits-1" / "curves.png"
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert not picture.exists() and 'pip install "wengert[train]"' in out
    else:
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000


def test_predict_digits(default_run: tuple[Path, str]) -> None:
    where, out = default_run
    done = cli("predict", "runs/digits-1/last.safetensors", "digits", cwd=where)
    lines = done.stdout.splitlines()
    assert lines[0] == "row\tclass\tprobability"
    row, label, probability = lines[1].split("\t")
    assert row == "0" and 0 <= int(label) <= 9 and 0.1 <= float(probability) <= 1
    found = re.search(r"^test accuracy ([0-9.]+) %", out, flags=re.M)
    assert found and f"accuracy {found[1]} %" in done.stderr


def test_info(tmp_path: Path) -> None:
    out = cli("info", cwd=tmp_path).stdout
    for word in (
        "wengert",
        wengert.__version__,
        "simd",
        wengert.simd_level(),
        "threads",
        "cuda",
        wengert.cuda_status(),
        "rich",
    ):
        assert word in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--loss", "mse", "--optimizer", "adam"],
        ["--loss", "mse_half", "--optimizer", "rmsprop", "--dtype", "float64"],
        [
            "--optimizer",
            "adamw",
            "--weight-decay",
            "0.01",
            "--dropout",
            "0.2",
            "--activation",
            "gelu",
        ],
        ["--optimizer", "momentum"],
        ["--optimizer", "sgd", "--schedule", "none", "--threads", "1", "--activation", "tanh"],
    ],
)
def test_options(tmp_path: Path, arguments: list[str]) -> None:
    cli(
        "train",
        "--layers",
        "32",
        "--epochs",
        "8",
        "--quiet",
        "--out",
        "r",
        *arguments,
        cwd=tmp_path,
    )
    assert metrics(tmp_path / "r")[-2]["test_accuracy"] > 0.85
    cli("predict", "r/best.safetensors", "digits", cwd=tmp_path)


def test_no_hidden_layer(tmp_path: Path) -> None:
    cli("train", "--layers", "--epochs", "3", "--quiet", "--out", "r", cwd=tmp_path)
    assert metrics(tmp_path / "r")[-2]["test_accuracy"] > 0.85


def test_csv_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    kind = np.where(x[:, 0] + x[:, 1] > 0, "up", "down")
    rows = "\n".join(f"{k},{a},{b},{c}" for k, (a, b, c) in zip(kind, x, strict=True))
    (tmp_path / "d.csv").write_text("kind,a,b,c\n" + rows + "\n")
    out = cli(
        "train", "--data", "d.csv", "--target", "kind", "--out", "r", "--quiet", cwd=tmp_path
    ).stdout
    assert "up" in out and metrics(tmp_path / "r")[-2]["test_accuracy"] > 0.9
    (tmp_path / "new.csv").write_text("a,b,c\n2,2,0\n-2,-2,0\n")
    lines = cli("predict", "r/last.safetensors", "new.csv", cwd=tmp_path).stdout.splitlines()
    assert [line.split("\t")[1] for line in lines[1:]] == ["up", "down"]
    done = cli("predict", "r/last.safetensors", "d.csv", cwd=tmp_path)
    assert "accuracy" in done.stderr
    (tmp_path / "wide.csv").write_text("1,2,3,4,5\n6,7,8,9,10\n")
    done = cli("predict", "r/last.safetensors", "wide.csv", cwd=tmp_path, check=False)
    assert_one_line(done, "takes 3 features")


def test_npz_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 2))
    np.savez(tmp_path / "d.npz", x=x, y=x[:, 0] * 2 - x[:, 1] + 5)
    done = cli("train", "--data", "d.npz", "--task", "classify", cwd=tmp_path, check=False)
    assert_one_line(done, "classes are whole numbers")
    out = cli("train", "--data", "d.npz", "--out", "r", "--quiet", cwd=tmp_path).stdout
    found = re.search(r"([0-9.]+) % of variance explained", out)
    assert found and float(found[1]) > 95
    assert not (tmp_path / "r" / "confusion.json").exists()
    lines = cli("predict", "r/last.safetensors", "d.npz", cwd=tmp_path).stdout.splitlines()
    assert lines[0] == "row\tvalue" and len(lines) == 401


# resuming


def test_resume_equals_an_uninterrupted_run(tmp_path: Path) -> None:
    """Dropout, Adam's state, the schedule and the order of the samples all come back."""
    settings = [
        "--layers",
        "16",
        "--dropout",
        "0.3",
        "--schedule",
        "none",
        "--seed",
        "5",
        "--quiet",
    ]
    cli("train", *settings, "--epochs", "4", "--out", "whole", cwd=tmp_path)
    cli("train", *settings, "--epochs", "2", "--out", "parts", cwd=tmp_path)
    cli("train", "--resume", "parts/last.safetensors", "--epochs", "4", "--quiet", cwd=tmp_path)
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "parts")
    assert_same_weights(
        tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors"
    )


def problem(tmp_path: Path, name: str, lr: float = 0.01) -> dict[str, Any]:
    """Arguments of `fit` for a small network with dropout, always the same."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    wengert.manual_seed(3)
    model = nn.MLP([6, 16, 2], dropout=0.2)
    optimizer = optim.Adam(model.parameters(), lr=lr)
    return {
        "model": model,
        "loss_fn": wengert.cross_entropy,
        "optimizer": optimizer,
        "data": Batches(x, y, 8, seed=3),
        "test": (x, y),
        "schedule": optim.CosineAnnealingLR(optimizer, T_max=3),
        "run_dir": tmp_path / name,
    }


def test_resume_in_mid_epoch(tmp_path: Path) -> None:
    whole = fit(**problem(tmp_path, "whole"), epochs=3)
    arguments = problem(tmp_path, "parts")
    steps = 0

    def loss_then_interrupt(prediction: Any, target: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 12:  # in the second epoch: its test adds one call to the eight of the first
            os.kill(os.getpid(), signal.SIGINT)
        return wengert.cross_entropy(prediction, target)

    first = fit(**{**arguments, "loss_fn": loss_then_interrupt}, epochs=3)
    assert first.interrupted and len(first.history) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    second = fit(**problem(tmp_path, "parts"), epochs=3, resume=first.checkpoint)
    assert not second.interrupted
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "parts")
    assert_same_weights(
        tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors"
    )
    np.testing.assert_array_equal(whole.outputs, second.outputs)
    with pytest.raises(ValueError, match="3 epochs behind it"):
        fit(**problem(tmp_path, "parts"), epochs=3, resume=first.checkpoint)


def test_ctrl_c_saves_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wengert", "train", "--epochs", "100000", "--out", "r"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(600):
            if (tmp_path / "r" / "best.safetensors").exists():
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted; saved" in out and "--resume r/last.safetensors" in out.replace("\n", " ")
    assert "Traceback" not in err
    done = len(metrics(tmp_path / "r"))
    cli(
        "train",
        "--resume",
        "r/last.safetensors",
        "--epochs",
        str(done + 1),
        "--quiet",
        cwd=tmp_path,
    )
    assert metrics(tmp_path / "r")[-1]["epochs"] == done + 1


# divergence


def test_divergence_names_the_step_and_the_op(tmp_path: Path) -> None:
    done = cli(
        "train",
        "--optimizer",
        "sgd",
        "--lr",
        "1e30",
        "--out",
        "r",
        "--quiet",
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"stopped in epoch 1, (after )?step \d+", done.stderr)
    assert (
        "made by 'matmul'" in done.stderr
        and "frozen" not in done.stderr
        and "smaller learning rate" in done.stderr
    )
    assert str(Path("r") / "last.safetensors") in done.stderr
    kept = weights(tmp_path / "r" / "last.safetensors")
    assert all(np.isfinite(value).all() for value in kept.values())


def test_divergence_in_the_backward_pass_is_traced(tmp_path: Path) -> None:
    """A finite loss whose gradient is infinite: the weights are spoiled a step before it shows."""
    arguments = problem(tmp_path, "bad")

    def loss_fn(prediction: Any, target: Any) -> Any:
        loss = wengert.cross_entropy(prediction, target)
        return loss + wengert.sqrt((prediction - prediction).sum())  # 0, with an infinite slope

    with pytest.raises(TrainingError, match=r"epoch 1, step 2.*step 1, .*made by .sqrt"):
        fit(**{**arguments, "loss_fn": loss_fn}, epochs=1)


def test_bad_data_are_named() -> None:
    x = np.zeros((8, 2), np.float32)
    x[3, 1] = np.nan
    model = nn.MLP([2, 4, 2])
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TrainingError, match="batch itself holds NaN"):
        fit(model, wengert.cross_entropy, optimizer, Batches(x, np.zeros(8, np.int64), 4), epochs=1)


# wrong requests


def assert_one_line(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
    assert says in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--lr", "0"], "--lr: 0 will not do; it must be a number, above 0"),
        (["train", "--lr", "-1"], "--lr"),
        (["train", "--lr", "nan"], "--lr"),
        (["train", "--lr", "inf"], "--lr"),
        (
            ["train", "--epochs", "0"],
            "--epochs: 0 will not do; it must be a whole number, at least 1",
        ),
        (["train", "--batch", "2.5"], "--batch"),
        (["train", "--layers", "64", "0"], "--layers"),
        (["train", "--dropout", "1"], "--dropout"),
        (["train", "--optimizer", "lion"], "invalid choice: 'lion'"),
        (["train", "--seed", "-1"], "--seed"),
        (["train", "--data", "nowhere"], "no such file or directory; give digits"),
        (["train", "--data", "empty"], "dataset-fashion-mnist"),
        (["train", "--data", "bad.csv"], "line 3, column 1"),
        (["train", "--data", "values.csv", "--loss", "cross_entropy"], "use --loss mse"),
        (["train", "--task", "regress"], "holds classes, not values"),
        (["train", "--data", "bad.npz"], "cannot be read as NPZ"),
        (["train", "--resume", "none.safetensors"], "no checkpoint none.safetensors"),
        (["train", "--out", "bad.csv"], "is a file"),
        (["predict", "none.safetensors", "digits"], "no checkpoint"),
        (["predict", "bad.csv", "digits"], "bad.csv"),
        (["predict"], "required: checkpoint, file"),
        (["dance"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_requests(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("a,b\n1,2\nred,3\n")
    (tmp_path / "values.csv").write_text("a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(9)))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not really")
    assert_one_line(cli(*arguments, cwd=tmp_path, check=False), says)
    assert not (tmp_path / "runs").exists()


def test_damaged_and_foreign_checkpoints(tmp_path: Path) -> None:
    cli("train", *FAST, "--out", "r", cwd=tmp_path)
    good = (tmp_path / "r" / "last.safetensors").read_bytes()
    for name, data in {
        "cut": good[: len(good) // 2],
        "empty": b"",
        "altered": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:],
    }.items():
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(data)
        for command in (["predict", file, "digits"], ["train", "--resume", file, "--epochs", "3"]):
            assert_one_line(cli(*command, cwd=tmp_path, check=False), "")
    done = cli("train", "--out", "r", cwd=tmp_path, check=False)
    assert_one_line(done, "holds a run already")
    resume = ["train", "--resume", "r/last.safetensors"]
    assert_one_line(cli(*resume, "--epochs", "2", cwd=tmp_path, check=False), "2 epochs behind it")
    assert_one_line(cli(*resume, "--lr", "0.5", cwd=tmp_path, check=False), "--lr 0.5 differs")
    (tmp_path / "other.csv").write_text("1,2,0\n3,4,1\n5,6,0\n7,8,1\n")
    done = cli(*resume, "--epochs", "3", "--data", "other.csv", cwd=tmp_path, check=False)
    assert_one_line(done, "not what r/last.safetensors was trained on")
    foreign = tmp_path / "foreign.safetensors"
    save_checkpoint(foreign, model=nn.MLP([2, 2]))
    done = cli("predict", foreign, "digits", cwd=tmp_path, check=False)
    assert_one_line(done, "not written by wengert train")


# what is printed


def test_confusion_text() -> None:
    counts = report.confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), 4)
    text = report.confusion_text(counts, ["a", "b", "c", "d"])
    assert re.search(r"a \| +1 +1 +\. +\. +50.0 %", text) and re.search(r"d \|.* - $", text)
    many = report.confusion_text(np.eye(30, dtype=np.int64) * 5, [str(i) for i in range(30)])
    assert "none" in many


def test_bar_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    epoch = {
        "epoch": 1,
        "step": 4,
        "train_loss": 0.5,
        "test_accuracy": 0.75,
        "samples_per_second": 1e4,
    }
    lines = report.Lines(epochs=2)
    lines.epoch(epoch)
    out = capsys.readouterr().out
    assert out.startswith("epoch 1/2  loss 0.5000  test accuracy 75.00 %  10,000 samples/s")
    pytest.importorskip("rich")
    bar = report.Bar(epochs=2, steps=8)
    bar.step(1, 1, epoch)
    bar.epoch(epoch)
    bar.close()
    assert report.brief({**epoch, "train_accuracy": 1.0}) == "loss 0.5000  acc 100.0 %  test 75.0 %"
    assert report.clock(59.6) == "1:00" and report.clock(3725) == "1:02:05"
