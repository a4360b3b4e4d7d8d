"""`wengert train`, `predict` and `info` as a user runs them, and `fit` beneath: results, files,
resuming, Ctrl-C, divergence, and one clear line for whatever was asked wrongly."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert
from wengert import nn, optim, train
from wengert.data import Batches
from wengert.io import load, load_checkpoint, save_checkpoint
from wengert.train import TrainingError, fit, loop, report

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
    run = where / "runs" / "digits"
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
    assert lines[-1]["summary"] and lines[-1]["test_accuracy"] == pytest.approx(
        float(found[1]) / 100, abs=1e-4
    )
    config = json.loads((run / "config.json").read_text())
    assert config["layers"] == [128] and config["seed"] == 0
    counts = np.array(json.loads((run / "confusion.json").read_text())["counts"])
    assert counts.sum() == int(found[3]) and np.trace(counts) == int(found[2])
    assert len(re.findall(r"^epoch +\d+/30 ", out, flags=re.M)) == 30  # no terminal: plain lines


def test_curves_picture(default_run: tuple[Path, str]) -> None:
    where, out = default_run
    picture = where / "runs" / "digits" / "curves.png"
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert not picture.exists() and 'pip install "wengert[train]"' in out
    else:
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000


def test_predict_digits(default_run: tuple[Path, str]) -> None:
    where, out = default_run
    command = re.search(r"try: wengert (predict .*)", out)  # the weights that were tested
    assert command and command[1] == "predict runs/digits/best.safetensors digits"
    done = cli(*command[1].split(), cwd=where)
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
    assert metrics(tmp_path / "r")[-1]["test_accuracy"] > 0.85
    cli("predict", "r/best.safetensors", "digits", cwd=tmp_path)


def test_no_hidden_layer(tmp_path: Path) -> None:
    cli("train", "--layers", "--epochs", "3", "--quiet", "--out", "r", cwd=tmp_path)
    assert metrics(tmp_path / "r")[-1]["test_accuracy"] > 0.85


def test_csv_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    kind = np.where(x[:, 0] + x[:, 1] > 0, "up", "down")
    rows = "\n".join(f"{k},{a},{b},{c}" for k, (a, b, c) in zip(kind, x, strict=True))
    (tmp_path / "d.csv").write_text("kind,a,b,c\n" + rows + "\n")
    out = cli(
        "train", "--data", "d.csv", "--target", "kind", "--out", "r", "--quiet", cwd=tmp_path
    ).stdout
    assert "up" in out and metrics(tmp_path / "r")[-1]["test_accuracy"] > 0.9
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
        "validation": (x, y),
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


# which epoch is the best, and what the test part is for


def misleading(run_dir: Path | None, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Arguments of `fit` where the validation labels are wrong: its loss rises while that of
    training falls."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    wengert.manual_seed(seed)
    model = nn.MLP([6, 16, 2])
    return {
        "model": model,
        "loss_fn": wengert.cross_entropy,
        "optimizer": optim.Adam(model.parameters(), lr=0.01),
        "data": Batches(x[:40], y[:40], 8, seed=3),
        "validation": (x[40:50], 1 - y[40:50]),
        "test": (x[50:], y[50:]),
        "run_dir": run_dir,
        **more,
    }


def losses(run: Path, part: str) -> list[float]:
    return [line[f"{part}_loss"] for line in numbers(run)]


def epoch_of(checkpoint: Path) -> int:
    epoch: int = load_checkpoint(checkpoint).extra["fit"]["epoch"]
    return epoch


@pytest.mark.parametrize("kept", [True, False], ids=["run_dir", "in memory"])
@pytest.mark.smoke
def test_validation_chooses_and_the_test_part_is_looked_at_once(
    tmp_path: Path, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    arguments = misleading(run if kept else None)
    looked: list[Any] = []
    real = train.predict
    monkeypatch.setattr(loop, "predict", lambda m, x, *a: looked.append(x) or real(m, x, *a))
    result = fit(**arguments, epochs=6)
    assert sum(np.shares_memory(x, arguments["test"][0]) for x in looked) == 1
    assert np.shares_memory(looked[-1], arguments["test"][0]) and len(looked) == 7
    validation = [m["validation_loss"] for m in result.history]
    best = int(np.argmin(validation)) + 1
    assert best < 6 and result.best_epoch == best
    assert not any(key.startswith("test") for m in result.history for key in m)
    model = arguments["model"]  # it has the weights of the best epoch
    np.testing.assert_array_equal(result.outputs, real(model, arguments["test"][0]))
    again = misleading(None)  # as many epochs, and no more
    fit(**{**again, "validation": None}, epochs=best)
    for p, q in zip(model.parameters(), again["model"].parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
    if kept:
        assert validation == losses(run, "validation")
        assert (
            epoch_of(run / "best.safetensors") == best and epoch_of(run / "last.safetensors") == 6
        )
        for name, value in weights(run / "best.safetensors").items():
            if name.startswith("model."):
                np.testing.assert_array_equal(value, model.state_dict()[name[6:]].numpy())
        summary = metrics(run)[-1]
        assert summary["best_epoch"] == summary["tested_epoch"] == best
        assert summary["test_loss"] == result.test["test_loss"]


def test_the_test_part_decides_nothing(tmp_path: Path) -> None:
    kept = []
    for name in ("a", "b"):
        arguments = misleading(tmp_path / name)
        x, y = arguments["test"]
        optimizer = arguments["optimizer"]
        fit(
            **{**arguments, "test": (x, y if name == "a" else 1 - y)},
            epochs=5,
            schedule=optim.ReduceLROnPlateau(optimizer, patience=0),
        )
        kept.append(numbers(tmp_path / name))
    assert kept[0] == kept[1]
    for name in ("best", "last"):
        assert_same_weights(
            tmp_path / "a" / f"{name}.safetensors", tmp_path / "b" / f"{name}.safetensors"
        )
    assert metrics(tmp_path / "a")[-1]["test_loss"] != metrics(tmp_path / "b")[-1]["test_loss"]


@pytest.mark.parametrize("validation", [True, False])
def test_plateau_steps_on_the_validation_loss(tmp_path: Path, validation: bool) -> None:
    arguments = misleading(tmp_path / "run")
    if not validation:
        arguments["validation"] = None
    optimizer = arguments["optimizer"]
    fit(**arguments, epochs=6, schedule=optim.ReduceLROnPlateau(optimizer, patience=0))
    judged = losses(tmp_path / "run", "validation" if validation else "train")
    worse = sum(loss > min(judged[: i + 1]) for i, loss in enumerate(judged))
    assert (worse > 0) == validation and optimizer.lr == pytest.approx(0.01 * 0.1**worse)


def test_without_validation_the_last_weights_are_tested(tmp_path: Path) -> None:
    arguments = {**misleading(tmp_path / "run"), "validation": None}
    result = fit(**arguments, epochs=4)
    train_loss = losses(tmp_path / "run", "train")
    assert result.best_epoch == int(np.argmin(train_loss)) + 1
    assert epoch_of(tmp_path / "run" / "best.safetensors") == result.best_epoch
    assert metrics(tmp_path / "run")[-1]["tested_epoch"] == 4
    with pytest.raises(ValueError, match="needs a validation part"):
        fit(**arguments, epochs=4, patience=2)
    with pytest.raises(ValueError, match="validation has 2 inputs and 1 targets"):
        fit(**{**arguments, "validation": (np.ones((2, 6)), np.ones(1))}, epochs=4)


@pytest.mark.smoke
def test_patience(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = fit(**misleading(run), epochs=50, patience=3)
    best = int(np.argmin(losses(run, "validation"))) + 1
    assert not result.interrupted and len(result.history) == best + 3 and result.best_epoch == best
    assert metrics(run)[-1]["epochs"] == best + 3
    more = {"resume": run / "last.safetensors", "epochs": 50}
    with pytest.raises(ValueError, match="3 epochs without a lower validation loss"):
        fit(**misleading(run), **more, patience=3)
    fit(**misleading(run), **more, patience=5)
    fit(**misleading(tmp_path / "whole"), epochs=50, patience=5)
    assert numbers(run) == numbers(tmp_path / "whole")
    for name in ("best", "last"):
        assert_same_weights(run / f"{name}.safetensors", tmp_path / "whole" / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("rising", "killed_at"),
    [
        (False, ("best", 1)),
        (False, ("last", 1)),
        (False, ("best", 3)),
        (False, ("last", 5)),
        (True, ("best", 1)),
        (True, ("last", 1)),
        (True, ("last", 4)),
    ],
)
def test_best_is_the_best_when_killed_between_two_saves(
    tmp_path: Path, rising: bool, killed_at: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run dies before one of the two files of an epoch is written, and is resumed."""
    run, real = tmp_path / "run", loop._Run._save

    def arguments() -> dict[str, Any]:
        found = misleading(run)
        if not rising:  # the validation loss falls: each epoch is the best
            found["validation"] = (found["data"].x, found["data"].y)
        return found

    def save(self: Any, name: str) -> None:
        if (name, self.at.epoch) == killed_at:
            raise ZeroDivisionError
        real(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_save", save)
        with pytest.raises(ZeroDivisionError):
            fit(**arguments(), epochs=5)
    fit(**arguments(), epochs=5, resume=run / "last.safetensors")
    validation = losses(run, "validation")
    assert len(validation) == 5
    best = load_checkpoint(run / "best.safetensors").extra["fit"]
    assert best["epoch"] == best["best_epoch"] == int(np.argmin(validation)) + 1
    assert best["best_loss"] == min(validation)
    assert metrics(run)[-1]["best_epoch"] == best["epoch"]


def test_a_resume_elsewhere_takes_the_best_along(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    fit(**misleading(a), epochs=4)
    best = epoch_of(a / "best.safetensors")
    fit(**misleading(b), epochs=6, resume=a / "last.safetensors")
    assert epoch_of(b / "best.safetensors") == best and len(metrics(a)) == 5
    early = tmp_path / "early"  # a checkpoint kept from the first epoch, beside a later best
    fit(**misleading(early), epochs=1)
    (early / "best.safetensors").write_bytes((a / "last.safetensors").read_bytes())
    fit(**misleading(c), epochs=3, resume=early / "last.safetensors")
    assert epoch_of(c / "best.safetensors") in (2, 3)  # of its own epochs
    (early / "best.safetensors").write_bytes(b"damaged")
    fit(**misleading(c), epochs=3, resume=early / "last.safetensors")
    assert epoch_of(c / "best.safetensors") in (2, 3)


def test_modes_of_parts_are_kept() -> None:
    """By predict, also where it fails; and by fit, in which a frozen part stays frozen."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.1)))
    for evaluated in ([], [1], [2], [0, 1, 2]):
        for i in range(3):
            model[i].train(i not in evaluated)
        before = [m.training for m in model.modules()]
        train.predict(model, np.ones((3, 4), np.float32))
        assert [m.training for m in model.modules()] == before
        with pytest.raises(wengert.ShapeError):
            train.predict(model, np.ones((3, 5), np.float32))
        assert [m.training for m in model.modules()] == before
    model.train()
    model[1].eval()
    data = Batches(np.ones((4, 4), np.float32), np.zeros(4, np.int64), 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    fit(model, wengert.cross_entropy, optimizer, data, epochs=1, validation=(data.x, data.y))
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    model.eval()
    fit(model, wengert.cross_entropy, optimizer, data, epochs=1)
    assert all(m.training for m in model.modules())


# the run directory


def test_runs_started_together_have_directories_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wengert", "train", *FAST, "--seed"]
    running = [subprocess.Popen([*command, str(i)], cwd=tmp_path) for i in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    runs = [tmp_path / "runs" / name for name in ("digits", "digits-2", "digits-3")]
    seeds = [json.loads((run / "config.json").read_text())["seed"] for run in runs]
    assert sorted(seeds) == [0, 1, 2] and all(len(metrics(run)) == 3 for run in runs)


def test_a_directory_has_one_run_at_a_time(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(**misleading(run), epochs=1)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    hold = (
        "import sys, time; from pathlib import Path; from wengert.train.directory import claimed\n"
        "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, run], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        for more in ({}, {"resume": run / "last.safetensors"}):
            with pytest.raises(FileExistsError, match="in use by another run"):
                fit(**misleading(run), epochs=2, **more)
        done = cli("train", *FAST, "--out", "run", cwd=tmp_path, check=False)
        assert_one_line(done, "run is in use by another run")
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    finally:
        holder.kill()  # which leaves its lock file, and no lock
        holder.wait()
    fit(**misleading(run), epochs=2, resume=run / "last.safetensors")
    assert len(metrics(run)) == 3


def test_a_fresh_run_leaves_nothing_of_a_former_one(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    fit(**misleading(run), epochs=2)
    with pytest.raises(FileExistsError, match="holds a run already"):
        fit(**misleading(run), epochs=1, overwrite=False)
    assert len(metrics(run)) == 3
    names = ("config.json", "metrics.jsonl", "last.safetensors", "best.safetensors")
    for name in names:  # links are replaced, not written through
        outside.mkdir(exist_ok=True)
        (run / name).rename(outside / name)
        (run / name).symlink_to(outside / name)
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    fit(**misleading(run, seed=1), epochs=1)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before
    assert len(metrics(run)) == 2 and not any((run / name).is_symlink() for name in names)

    def interrupt(*_: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # before its first epoch has ended
        fit(**{**misleading(run), "loss_fn": interrupt}, epochs=1)
    assert not (run / "best.safetensors").exists() and (run / "last.safetensors").exists()
    with pytest.raises(ValueError, match="not written by fit"):  # and nothing at all is left of
        save_checkpoint(tmp_path / "x.safetensors", model=nn.MLP([6, 16, 2]))
        fit(
            **{**misleading(tmp_path / "new"), "optimizer": None},
            epochs=1,
            resume=tmp_path / "x.safetensors",
        )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("room", "names"), [(0, "config.json"), (1024, "metrics.jsonl")])
def test_a_resume_that_cannot_write_leaves_all_as_it_was(
    tmp_path: Path, room: int, names: str
) -> None:
    cli("train", *FAST[:2], "--epochs", "9", "--quiet", "--out", "r", cwd=tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    resume = ["train", "--resume", "r/last.safetensors", "--quiet", "--epochs"]
    full = subprocess.run(
        [sys.executable, "-m", "wengert", *resume, "20"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )  # fmt: skip
    assert_one_line(full, f"r/{names}: File too large")
    after = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    changes = {name for name in after if after[name] != before.get(name)}
    assert after.keys() == before.keys() and changes <= {"config.json"}
    json.loads(after["config.json"])
    cli(*resume, "11", cwd=tmp_path)
    assert [line["epoch"] for line in numbers(tmp_path / "r")] == list(range(1, 12))


def test_history_with_a_damaged_line(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    good = [json.dumps({"epoch": i, "train_loss": 1.0, "seconds": 1.0}) for i in (1, 2, 3)]
    file.write_bytes("\n".join([good[0], '{"epo', "5", "{}", good[1], good[2]]).encode() + b"\xff")
    assert [line["epoch"] for line in train.read_history(file, 2)] == [1, 2]
    assert train.read_history(tmp_path / "none", 2) == []


# divergence


class Decay(optim.SGD):
    """Written with ops, and without a count of steps."""

    def _update(self, group: Any, cohort: Any, grads: list[wengert.Tensor]) -> None:
        for p, grad in zip(cohort.params, grads, strict=True):
            p.mul_(0.9)
            p.sub_(grad * 0.1)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.Adafactor, Decay])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_step_before_its_update(
    make: Any, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    y = x.sum(1, keepdims=True)
    y[:] = np.where(np.arange(40)[:, None] < 32, y, 1e30)  # of the last of five batches

    def run(rows: int, compiled: bool) -> tuple[list[Any], str, list[Any]]:
        lists: list[Any] = []
        compile_ = wengert.compile
        monkeypatch.setattr(wengert, "compile", lambda f: lists.append(compile_(f)) or lists[-1])
        model = nn.Linear(3, 1, generator=wengert.Generator(0))
        data = Batches(x[:rows], y[:rows], 8, shuffle=False)
        text, optimizer = "", make(model.parameters(), lr=0.01)
        try:
            fit(
                model, wengert.mse_loss, optimizer, data, epochs=1,
                accumulate=accumulate, compile=compiled,
            )  # fmt: skip
        except TrainingError as error:
            text = str(error)
        monkeypatch.undo()
        state = optimizer.state_dict()["state"]
        steps = [entry["step"].item() for entry in state.values()]
        return [p.detach().numpy().tobytes() for p in model.parameters()] + steps, text, lists

    good, none, _ = run(32, True)
    stopped, text, lists = run(40, True)
    assert none == "" and "stopped in epoch 1, step" in text and "the loss became inf" in text
    assert stopped == good
    assert run(40, False)[:2] == (stopped, text)
    programs = [one.program for one in lists if one.program]
    assert programs
    for program in programs:
        assert sum("require_finite" in str(line) for line in program.lines) == 1


@pytest.mark.smoke
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
        (["train", "--optimizer", "tiger"], "invalid choice: 'tiger'"),
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


@pytest.mark.smoke
def test_confusion_text() -> None:
    counts = report.confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), 4)
    text = report.confusion_text(counts, ["a", "b", "c", "d"])
    assert re.search(r"a \| +1 +1 +\. +\. +50.0 %", text) and re.search(r"d \|.* - $", text)
    many = report.confusion_text(np.eye(30, dtype=np.int64) * 5, [str(i) for i in range(30)])
    assert "none" in many


@pytest.mark.smoke
def test_bar_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    epoch = {
        "epoch": 1,
        "step": 4,
        "train_loss": 0.5,
        "validation_accuracy": 0.75,
        "samples_per_second": 1e4,
    }
    lines = report.Lines(epochs=2)
    lines.epoch(epoch)
    out = capsys.readouterr().out
    assert out.startswith("epoch 1/2  loss 0.5000  validation accuracy 75.00 %  10,000 samples/s")
    pytest.importorskip("rich")
    bar = report.Bar(epochs=2, steps=8)
    bar.step(1, 1, epoch)
    bar.epoch(epoch)
    bar.close()
    assert report.brief({**epoch, "train_accuracy": 1.0}) == "loss 0.5000  acc 100.0 %  val 75.0 %"
    assert report.clock(59.6) == "1:00" and report.clock(3725) == "1:02:05"
