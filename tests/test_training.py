"""What `fit` takes besides data and epochs: callbacks, logs, metrics, schedules by name, averages,
accumulation, clipping; the compiled step; resuming exactly with each; the learning-rate finder."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert
from wengert import nn, optim, train
from wengert.data import Batches
from wengert.io import load_checkpoint
from wengert.train import Callback, CSVLogger, JSONLLogger, TrainingError, fit, metrics

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 1)


def problem(dropout: float = 0.2, optimizer: Any = optim.Adam, **more: Any) -> dict[str, Any]:
    wengert.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.MLP([16, 16, 3], dropout=dropout)
    )
    return {
        "model": model,
        "loss_fn": wengert.cross_entropy,
        "optimizer": optimizer(model.parameters(), lr=0.02),
        "data": Batches(X[:70], Y[:70], 8, seed=3),
        "validation": (X[70:], Y[70:]),
        "epochs": 3,
        **more,
    }


def state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for (name, x), y in zip(state(a).items(), state(b).values(), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


class Recorded(Callback):
    """Notes what it is told, and does something at one event."""

    def __init__(self, at: str = "", step: int = 0, act: Any = None) -> None:
        self.told: list[str] = []
        self.at, self.step, self.act = at, step, act

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def call(training: train.Training) -> None:
            self.told.append(name)
            if name == self.at and training.step >= self.step:
                self.act(training)

        return call


def interrupt(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGINT)


# ---- callbacks


def test_callbacks_are_told_in_order_and_may_add_numbers(tmp_path: Path) -> None:
    def add(training: train.Training) -> None:
        assert training.metrics["epoch"] == training.epoch and training.run_dir == tmp_path
        training.metrics["twice"] = 2 * training.metrics["validation_loss"]

    seen = Recorded("on_epoch_end", act=add)
    losses: list[Any] = []
    other = Recorded("on_train_batch_end", act=lambda t: losses.append((t.step, t.loss)))
    arguments = problem(callbacks=[seen, other], run_dir=tmp_path)
    history = fit(**arguments).history
    epoch = ["on_epoch_begin", *["on_train_batch_end"] * 9, "on_epoch_end"]
    assert seen.told == other.told == ["on_train_begin", *epoch * 3, "on_train_end"]
    assert [step for step, _ in losses] == list(range(1, 28))
    assert np.isfinite([loss for _, loss in losses]).all()
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for line, kept in zip(lines, history, strict=False):
        assert line["twice"] == kept["twice"] == 2 * kept["validation_loss"]


def test_what_is_no_callback() -> None:
    for wrong in (print, "csv"):
        with pytest.raises(
            ValueError, match=r"callbacks is .*; each must have one of on_train_begin"
        ):
            fit(**problem(callbacks=[wrong]))


def test_a_callback_stops_the_run_after_the_epoch() -> None:
    def stop(training: train.Training) -> None:
        training.should_stop = True

    result = fit(**problem(callbacks=[Recorded("on_train_batch_end", 12, stop)]))
    assert len(result.history) == 2 and not result.interrupted


@pytest.mark.parametrize("event", [name for name in vars(Callback) if name.startswith("on_")])
def test_a_callback_that_raises_is_named_and_training_is_kept(event: str, tmp_path: Path) -> None:
    def fail(training: train.Training) -> None:
        raise KeyError("lost")

    whole = problem(run_dir=tmp_path / "whole")
    fit(**whole)
    arguments = problem(run_dir=tmp_path / "r", callbacks=[Recorded(event, 12, fail)])
    if event == "on_train_begin":
        arguments["callbacks"] = [Recorded(event, 0, fail)]
    with pytest.raises(
        TrainingError, match=rf"Recorded\.{event} raised KeyError: 'lost'"
    ) as caught:
        fit(**arguments)
    assert isinstance(caught.value.__cause__, KeyError)
    where = {
        "on_train_begin": "1, after step 0",
        "on_epoch_begin": "3, after step 18",
        "on_train_end": "3, after step 27",
    }
    assert f"epoch {where.get(event, '2, after step')}" in str(caught.value)
    last = tmp_path / "r" / "last.safetensors"
    if event == "on_train_begin":
        assert not last.exists()
        return
    assert f"{last} has the training up to there" in str(caught.value)
    again = problem(run_dir=tmp_path / "r")
    if event != "on_train_end":
        fit(**again, resume=last)
    else:
        load_checkpoint(last, again["model"])
        load_checkpoint(tmp_path / "r" / "best.safetensors", again["model"])
    assert_same(whole["model"], again["model"])


def test_state_of_callbacks_is_kept() -> None:
    class Counts(Callback):
        n = 0

        def on_train_batch_end(self, training: train.Training) -> None:
            self.n += 1

        def state_dict(self) -> dict[str, int]:
            return {"n": self.n}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.n = state["n"]

    path = Path("r")
    first = fit(**problem(callbacks=[Counts()], run_dir=path, epochs=1))
    second = Counts()
    fit(**problem(callbacks=[second], run_dir=path, epochs=2), resume=first.checkpoint)
    assert second.n == 18
    with pytest.raises(ValueError, match="written with 1 callbacks"):
        fit(**problem(run_dir=path, epochs=3), resume=first.checkpoint)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ---- resuming, exactly

FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulate": {"accumulate": 4},
    "clip": {"clip_grad_norm": 0.3},
    "ema": {"ema": 0.9},
    "warmup": {"schedule": "linear", "warmup": 5},
    "onecycle": {"schedule": "onecycle"},
    "plateau": {"schedule": "plateau", "monitor": "validation_f1", "metrics": ["f1", "auc"]},
    "weights": {"class_weight": "balanced"},
    "all": {
        "accumulate": 2, "clip_grad_norm": 0.5, "ema": 0.8, "schedule": "cosine", "warmup": 3,
        "metrics": ["f1"], "monitor": "validation_f1", "class_weight": {2: 3.0},
    },
}  # fmt: skip


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES.keys())
def test_a_resume_in_mid_epoch_is_exact(features: dict[str, Any], tmp_path: Path) -> None:
    logs = [CSVLogger("a/log.csv"), JSONLLogger("a/log.jsonl")]
    whole = problem(**features, run_dir=tmp_path / "a", callbacks=logs)
    done = fit(**whole)
    eager = problem(**features, compile=False)
    fit(**eager)
    assert_same(whole["model"], eager["model"])  # bit for bit
    logs = [CSVLogger("b/log.csv"), JSONLLogger("b/log.jsonl")]
    steps = 4 if "accumulate" in features else 12
    stop = Recorded("on_train_batch_end", steps, interrupt)
    first = fit(**problem(**features, run_dir=tmp_path / "b", callbacks=[*logs, stop]))
    assert first.interrupted and load_checkpoint(first.checkpoint).step == steps
    parts = problem(**features, run_dir=tmp_path / "b", callbacks=logs)
    rest = fit(**parts, resume=first.checkpoint)
    assert_same(whole["model"], parts["model"])

    def numbers(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        clock = ("seconds", "samples_per_second")
        return [{k: v for k, v in m.items() if k not in clock} for m in history]

    assert numbers(done.history) == numbers(rest.history)
    lines = [json.loads(x) for x in Path("b/log.jsonl").read_text().splitlines()]
    assert numbers(lines) == numbers(done.history)
    with Path("b/log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["validation_loss"]) for r in rows] == [
        m["validation_loss"] for m in done.history
    ]
    for name in ("last", "best"):
        a, b = (load_checkpoint(tmp_path / run / f"{name}.safetensors") for run in "ab")
        for key in a.model:
            np.testing.assert_array_equal(a.model[key].numpy(), b.model[key].numpy())


# ---- what each of them does


def plain(x: np.ndarray, y: np.ndarray, size: int, **more: Any) -> tuple[nn.Module, Any]:
    """A linear network, and its run by SGD without shuffling."""
    wengert.manual_seed(0)
    model = nn.Linear(6, 3)
    data = Batches(x, y, size, shuffle=False)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    result = fit(model, wengert.cross_entropy, optimizer, data, **{"epochs": 2, **more})
    return model, result


def test_accumulation_is_a_larger_batch() -> None:
    small, large = plain(X[:72], Y[:72], 8, accumulate=3)[0], plain(X[:72], Y[:72], 24)[0]
    np.testing.assert_allclose(small.weight.detach(), large.weight.detach(), rtol=2e-5, atol=1e-6)
    steps = plain(X[:72], Y[:72], 8, accumulate=4)[1].history[-1]["step"]
    assert steps == 2 * 3  # groups of 4, 4 and 1


def test_gradients_are_clipped() -> None:
    before, after = (plain(X[:8], Y[:8], 8, epochs=n, clip_grad_norm=0.01)[0] for n in (1, 2))
    moved = [
        (a - b).detach().numpy()
        for a, b in zip(after.parameters(), before.parameters(), strict=True)
    ]
    assert np.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_the_average_is_judged_and_kept(tmp_path: Path) -> None:
    every: list[np.ndarray] = []

    def note(training: train.Training) -> None:
        every.append(training.model.weight.detach().numpy().copy())  # type: ignore[attr-defined]

    seen = Recorded("on_train_batch_end", act=note)
    model, result = plain(X, Y, 10, ema=0.8, callbacks=[seen], run_dir=tmp_path, test=(X, Y))
    mean = every[0]
    for w in every[1:]:
        mean = 0.8 * mean + 0.2 * w
    np.testing.assert_allclose(model.weight.detach(), mean, rtol=1e-5)
    np.testing.assert_allclose(
        result.outputs, X @ mean.T + model.bias.detach().numpy(), rtol=1e-4, atol=1e-5
    )
    found = load_checkpoint(tmp_path / "last.safetensors")
    np.testing.assert_allclose(found.averaged["module.weight"], mean, rtol=1e-5)
    np.testing.assert_array_equal(found.model["weight"], every[-1])
    with pytest.raises(ValueError, match="no average"):
        plain(X, Y, 10, run_dir=tmp_path)
        plain(X, Y, 10, ema=0.8, run_dir=tmp_path, epochs=3, resume=tmp_path / "last.safetensors")


def test_schedules_by_name() -> None:
    def rates(**more: Any) -> list[float]:
        found: list[float] = []

        def note(training: train.Training) -> None:
            found.append(training.optimizer.lr)

        plain(X[:40], Y[:40], 8, callbacks=[Recorded("on_train_batch_end", act=note)], **more)
        return found

    np.testing.assert_allclose(rates(schedule="linear"), 0.1 * (1 - np.arange(1, 11) / 10))
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(1, 11) / 10))
    np.testing.assert_allclose(rates(schedule="cosine"), cosine, atol=1e-12)
    warm = rates(schedule="constant", warmup=4)
    np.testing.assert_allclose(warm, [0.04, 0.06, 0.08] + [0.1] * 7)
    assert rates(schedule="constant") == [0.1] * 10
    once = rates(schedule="onecycle")
    assert max(once) == pytest.approx(0.1) and once.index(max(once)) == 2 and once[-1] < 1e-6
    assert rates(schedule="linear", accumulate=5) == pytest.approx([0.05, 0.0])


def test_class_weights_weigh_the_loss() -> None:
    weights = metrics.class_weights(Y, 3)
    given = wengert.tensor(weights, "float32")
    wengert.manual_seed(0)
    by_hand = nn.Linear(6, 3)
    fit(
        by_hand, lambda p, y: wengert.cross_entropy(p, y, weight=given),
        optim.SGD(by_hand.parameters(), lr=0.1), Batches(X, Y, 10, shuffle=False), epochs=2,
    )  # fmt: skip
    np.testing.assert_array_equal(
        plain(X, Y, 10, class_weight="balanced")[0].weight.detach(), by_hand.weight.detach()
    )
    np.testing.assert_allclose((weights * np.bincount(Y)).sum(), len(Y))
    np.testing.assert_array_equal(metrics.class_weights(Y, 3, {1: 2.5}), [1, 2.5, 1])
    with pytest.raises(ValueError, match="loss_fn as weight=, which it does not take"):
        fit(**{**problem(), "loss_fn": lambda p, y: p.sum()}, class_weight="balanced")


def test_what_is_monitored_chooses_the_best_epoch() -> None:
    def fall(training: train.Training) -> None:
        training.metrics["good"] = [0.1, 0.3, 0.2, 0.31, 0.0][training.epoch - 1]

    def run(**more: Any) -> train.Result:
        callbacks = [Recorded("on_epoch_end", act=fall)]
        return fit(**{**problem(callbacks=callbacks), "epochs": 5, **more})

    assert fit(**problem(metrics=["f1"], monitor="validation_f1")).best_epoch
    best = max(
        enumerate((m := fit(**problem(metrics=["f1"], monitor="validation_f1"))).history, 1),
        key=lambda e: (e[1]["validation_f1"], -e[0]),
    )
    assert best[0] == m.best_epoch
    with pytest.raises(ValueError, match=r"monitor is 'validation_f2', and an epoch has .*loss"):
        run(monitor="validation_f2")
    late = run(patience=2, min_delta=10.0)
    assert len(late.history) == 3 and late.best_epoch == 1


def test_metrics_are_those_of_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(1)
    logits = np.round(rng.standard_normal((200, 4)), 1)  # with ties
    y = np.r_[np.arange(4), rng.integers(0, 4, 196)]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    answers = logits.argmax(1)
    assert metrics.accuracy(logits, y) == sk.accuracy_score(y, answers)
    assert metrics.f1(logits, y) == pytest.approx(sk.f1_score(y, answers, average="macro"))
    fine = rng.standard_normal((200, 4))
    q = np.exp(fine) / np.exp(fine).sum(1, keepdims=True)
    assert metrics.auc(fine, y) == pytest.approx(sk.roc_auc_score(y, q, multi_class="ovr"))
    for k in (1, 2, 3):
        wanted = sk.top_k_accuracy_score(y, fine, k=k)
        assert metrics.top_k(fine, y, k) == pytest.approx(wanted)
    assert metrics.top_k(fine, np.eye(4)[y], 2) == metrics.top_k(fine, y, 2)
    two = (y > 1).astype(int)
    wanted = sk.roc_auc_score(two, logits[:, 0])
    assert (
        metrics.auc(logits[:, :1], two) == metrics.auc(logits[:, 0], two) == pytest.approx(wanted)
    )
    both = logits[:, :2]
    assert metrics.auc(both, two) == pytest.approx(sk.roc_auc_score(two, both[:, 1] - both[:, 0]))
    assert metrics.f1(both, two) == pytest.approx(sk.f1_score(two, both.argmax(1), average="macro"))
    targets = rng.standard_normal((200, 4))
    targets[:, 2] = 1.0
    assert metrics.r2(logits, targets) == pytest.approx(sk.r2_score(targets, logits))
    sure = p.max(1)
    gaps = [
        abs(sure[b].sum() - (answers == y)[b].sum())
        for i in range(15)
        if (b := (sure > i / 15) & (sure <= (i + 1) / 15)).any()
    ]
    assert metrics.calibration_error(logits, y) == pytest.approx(sum(gaps) / 200)
    weights = pytest.importorskip("sklearn.utils").compute_class_weight
    np.testing.assert_allclose(
        metrics.class_weights(y), weights("balanced", classes=np.arange(4), y=y)
    )
    with pytest.raises(ValueError, match="all samples are of one class"):
        metrics.auc(logits, y * 0)


def test_metrics_by_name_and_by_function() -> None:
    def wrong(outputs: np.ndarray, y: np.ndarray) -> float:
        return float((outputs.argmax(1) != y).sum())

    chosen = ["f1", "auc", "calibration_error", "top_k", wrong]
    result = fit(**problem(metrics=chosen, test=(X, Y)))
    last, outputs = result.history[-1], result.outputs
    assert {"validation_f1", "validation_auc", "validation_wrong"} <= set(last)
    assert result.test["test_f1"] == metrics.f1(outputs, Y)
    assert result.test["test_wrong"] == wrong(outputs, Y)
    with pytest.raises(ValueError, match="no metric 'f3'; there are accuracy, auc"):
        fit(**problem(metrics=["f3"]))


# ---- the compiled step


def test_a_step_that_cannot_be_compiled_runs_as_it_is() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            y = self.inner(x)
            return y * 2 if y.sum().item() > 0 else y

    def run(**more: Any) -> nn.Module:
        wengert.manual_seed(0)
        model = Looks()
        fit(
            model, wengert.cross_entropy, optim.SGD(model.parameters(), lr=0.1),
            Batches(X, Y, 10), epochs=1, **more,
        )  # fmt: skip
        return model

    with pytest.warns(RuntimeWarning, match="runs as Python runs it.*looks at values"):
        one = run()
    assert_same(one, run(compile=False))


def test_the_precision_of_products_is_as_before() -> None:
    seen: list[str] = []
    note = Recorded("on_epoch_end", act=lambda _: seen.append(wengert.get_matmul_precision()))
    fit(**problem(precision="bf16", callbacks=[note]))
    assert seen == ["bf16"] * 3 and wengert.get_matmul_precision() == "strict"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"accumulate": 0}, "accumulate is 0; it must be at least 1"),
        ({"warmup": 3}, "warmup is 3; .*needs schedule='constant'"),
        ({"clip_grad_norm": 0.0}, "clip_grad_norm is 0.0; it must be above 0"),
        ({"ema": 1.0}, "ema is 1.0; it must be between 0 and 1"),
        ({"mode": "most"}, "mode is 'most'; it must be 'min' or 'max'"),
        ({"schedule": "sine"}, "schedule is 'sine'; .*constant, linear, cosine"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fit(**problem(**wrong))


# ---- logs


def test_event_files_are_read_by_tensorboard(tmp_path: Path) -> None:
    module = "tensorboard.backend.event_processing.event_accumulator"
    reader = pytest.importorskip(module, reason="TensorBoard is not installed")
    logger = train.TensorBoardLogger(tmp_path / "board", every=4)
    stop = Recorded("on_train_batch_end", 14, interrupt)
    first = fit(**problem(run_dir=tmp_path / "r", callbacks=[logger, stop]))
    logger = train.TensorBoardLogger(tmp_path / "board", every=4)
    rest = fit(**problem(run_dir=tmp_path / "r", callbacks=[logger]), resume=first.checkpoint)
    found = reader.EventAccumulator(str(tmp_path / "board"))
    found.Reload()
    for name in ("train_loss", "validation_loss", "validation_accuracy", "lr"):
        events = found.Scalars(name)
        assert [e.step for e in events] == [9, 18, 27]
        np.testing.assert_allclose([e.value for e in events], [m[name] for m in rest.history], 1e-6)
    assert [e.step for e in found.Scalars("step_loss")] == [4, 8, 12, 16, 20, 24]


def test_logs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    loggers: list[Any] = [CSVLogger, JSONLLogger]
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    for logger in [*loggers, train.TensorBoardLogger]:
        with pytest.raises(OSError, match=rf"{logger.__name__}: cannot write .*file.*another path"):
            fit(**problem(callbacks=[logger(tmp_path / "file" / "log")], run_dir=tmp_path / "r"))
        assert not (tmp_path / "r").exists()
    with pytest.raises(OSError, match=r"run directory .*file/r cannot be written: Not a directory"):
        fit(**problem(run_dir=tmp_path / "file" / "r"))

    def spoil(_: Any) -> None:
        Path("log.csv").unlink()
        Path("log.csv").mkdir()

    late = Recorded("on_epoch_begin", 9, spoil)
    arguments = problem(callbacks=[late, CSVLogger("log.csv")], run_dir=tmp_path / "r")
    with pytest.raises(TrainingError, match=r"CSVLogger\.on_epoch_end raised .*log\.csv"):
        fit(**arguments)
    assert load_checkpoint(tmp_path / "r" / "last.safetensors").step == 18


# ---- the learning-rate finder


def test_the_finder_suggests_a_rate_and_changes_nothing(tmp_path: Path) -> None:
    arguments = problem()
    model, optimizer, data = (arguments[name] for name in ("model", "optimizer", "data"))
    model[1].eval()
    before, words = state(model), wengert.default_generator.state.tolist()
    found = train.find_lr(
        model, wengert.cross_entropy, optimizer, data, min_lr=1e-5, max_lr=10.0, steps=60
    )
    assert 1e-4 < found.suggestion < 1 and len(found.lrs) == len(found.losses) <= 60
    assert found.lrs[0] == 1e-5 and found.lrs == sorted(found.lrs)
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert optimizer.lr == 0.02 and data.state_dict() == {"epoch": 0, "batch": 0}
    assert wengert.default_generator.state.tolist() == words
    assert model.training and not model[1].training
    fresh = problem()
    fresh["model"][1].eval()
    fit(**{**arguments, "validation": None})
    fit(**{**fresh, "validation": None})
    assert_same(model, fresh["model"])
    with pytest.raises(ValueError, match=r"min_lr 1, max_lr 0\.5"):
        train.find_lr(model, wengert.cross_entropy, optimizer, data, min_lr=1, max_lr=0.5)
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    found.plot(tmp_path / "lr.png")
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in found._repr_html_()
