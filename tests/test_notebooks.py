"""What notebooks show: valid HTML of a few kilobytes, with the values there are."""

from __future__ import annotations

import copy
import math
import sys
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import _shown, nn, optim
from wengert.train.finder import LRFinder

VOID = {"img", "br", "meta", "link", "input"}


class Read(HTMLParser):
    """The text and the elements of HTML whose tags must match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.found: dict[str, list[dict[str, str | None]]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.setdefault(tag, []).append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(thing: Any, most: int = 6000) -> Read:
    html = thing._repr_html_()
    assert len(html) <= most
    return Read(html)


def words(thing: Any, most: int = 6000) -> str:
    return " ".join(shown(thing, most).text)


# ---- tensors

TENSORS = {
    "0-d": lambda: wg.tensor(2.5),
    "bool": lambda: wg.tensor(True),
    "empty": lambda: wg.zeros((0, 3)),
    "one axis": lambda: wg.arange(5),
    "table": lambda: wg.randn((6, 10)),
    "three axes": lambda: wg.randn((2, 3, 4)),
    "map": lambda: wg.randn((300, 200)),
    "long": lambda: wg.arange(100_000),
    "mask": lambda: wg.rand((50, 50)) > 0.5,
    "bfloat16": lambda: wg.randn((40, 40)).bfloat16(),
    "bytes": lambda: wg.randint(0, 256, (60, 50, 3)).to("uint8"),
    "images": lambda: wg.rand((30, 3, 32, 32)),
    "NaN alone": lambda: wg.full((30, 30), math.nan),
    "largest": lambda: wg.tensor([[-1.7e308, 1.7e308]] * 40, dtype="float64"),
    "whole numbers": lambda: wg.tensor([2**63 - 1, -(2**63)]),
    "parameter": lambda: nn.Parameter(wg.zeros((3, 3))),
    "expanded": lambda: wg.zeros((1,)).expand((10**6, 10**6)),
    "strided": lambda: wg.randn((40, 60)).T[::-1],
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.smoke
def test_tensors(name: str) -> None:
    x = TENSORS[name]()
    text = words(x)
    assert text.startswith(f"{type(x).__name__} {x.dtype.name} {tuple(x.shape)} on cpu")
    assert "cannot be read" not in text


def test_numbers_of_tensors() -> None:
    x = wg.tensor([[1.0, -2.0, math.nan], [math.inf, 0.0, 0.5]])
    read = shown(x)
    assert [word for word in read.text if word in ("1", "-2", "NaN", "inf", "0", "0.5")] == [
        "1", "-2", "NaN", "inf", "0", "0.5",
    ]  # fmt: skip
    assert "min -2, max 1, mean -0.125" in read.text[-1]
    assert read.text[-1].endswith("1 zero, 1 NaN, 1 infinite")
    assert "3 of 4 are True" in words(wg.tensor([True, True, False, True]))
    assert "nothing finite, 900 NaN" in words(TENSORS["NaN alone"]())
    assert "no elements" in words(wg.zeros((0, 3)))
    y = wg.tensor([1.0], requires_grad=True)
    assert "requires_grad" in words(y) and "made_by mul" in words(y * 2)
    assert "elements looked at" in words(TENSORS["expanded"]())


def picture(thing: Any) -> Any:
    pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (image,) = shown(thing).found["img"]
    file = b64decode((image["src"] or "").removeprefix("data:image/png;base64,"))
    return pil.open(BytesIO(file))


def test_maps_and_images() -> None:
    x = np.zeros((30, 20), np.float32)
    x[0, 0], x[1, 0], x[2, 0], x[3, 0] = 5, -5, np.nan, np.inf
    pixels = np.asarray(picture(wg.tensor(x)).convert("RGBA"))
    assert pixels.shape == (30, 20, 4)
    high, low, nan, infinite, zero = pixels[[0, 1, 2, 3, 4], 0]
    assert high[0] > high[2] and low[2] > low[0] and high[3] == low[3] == 255
    assert tuple(nan[:3]) == _shown.BAD and tuple(infinite[:3]) == _shown.ENDLESS
    assert zero[3] < 60  # nearly transparent: the notebook's own background
    colours = np.random.default_rng(0).integers(0, 256, (20, 10, 3), np.uint8)
    assert np.array_equal(np.asarray(picture(wg.tensor(colours))), colours)
    grey = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    tiles = np.asarray(picture(wg.tensor(grey)))
    assert np.array_equal(tiles[:, 9:17], np.rint(grey[1, 0] * 255).astype(np.uint8))


@pytest.mark.smoke
def test_no_value_is_read_while_a_step_is_traced() -> None:
    seen = []

    def step(x: wg.Tensor) -> wg.Tensor:
        y = x * 2
        seen.append(words(y))
        return y

    x = wg.rand((3,))
    fast = wg.compile(step)
    for _ in range(3):
        fast(x)
    assert "not read" in seen[1]
    program = wg.trace(step)(x)
    assert "not read" in seen[-1] and [line.op for line in program.lines] == ["mul"]
    assert not any("looked at" in note for note in program.notes)
    wg.vmap(step)(wg.rand((2, 3)))
    assert "not read" in seen[-1]


def test_values_that_cannot_be_read_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(x: Any) -> Any:
        raise RuntimeError("the device is <gone>\nand more")

    monkeypatch.setattr(_shown, "_values", refuse)
    assert words(wg.zeros((3,))).endswith("its values cannot be read: the device is <gone>")


# ---- modules, steps, checks


def test_modules() -> None:
    model = nn.MLP([4, 3, 2])
    text = words(model)
    assert "0: Linear(in_features=4, out_features=3)" in text and "23 parameters" in text
    assert "wengert.summary(model, *inputs)" in text
    costs = wg.summary(model, wg.rand((5, 4)))
    for thing in (costs, model):
        text = words(thing)
        assert "training FLOPs" in text and "(5, 3)" in text
    model.extra = nn.Linear(2, 2)  # the costs are no longer those of the model
    assert "training FLOPs" not in words(model)
    text = words(nn.Sequential(*(nn.Linear(1, 1) for _ in range(500))), 20_000)
    assert "and 441 more" in text

    class Odd(nn.Module):
        def extra_repr(self) -> str:
            return "<script>"

    assert "<script>" in words(Odd()) and "<script>" not in Odd()._repr_html_()


def step_of(model: nn.Module, optimizer: optim.Optimizer) -> Any:
    def step(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
        optimizer.zero_grad()
        loss = wg.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_compiled_steps_and_programs() -> None:
    model = nn.MLP([4, 3, 2])
    step = step_of(model, optim.SGD(model.parameters(), lr=0.1))
    x, y = wg.rand((5, 4)), wg.tensor([0, 1, 0, 1, 1])
    fast = wg.compile(step)
    assert "step_of.<locals>.step: 0 traces" in words(fast)
    for _ in range(3):
        fast(x, y)
    assert "1 trace" in words(fast, 30_000) and "sgd_step" in words(fast, 30_000)
    fast(x[:3], y[:3])
    assert "argument 0 was float32(5, 4)" in words(fast, 30_000)

    program = wg.trace(step)(x, y)
    (frame,) = shown(program, 400_000).found["iframe"]
    page = frame["srcdoc"] or ""
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert frame["sandbox"] == "allow-scripts"
    assert "the function ran no op" in words(wg.trace(lambda: None)())
    program.core = None  # as one that was read from a file
    assert "cross_entropy" in words(program, 30_000)


def test_checks() -> None:
    w = wg.tensor([1.0, 2.0], requires_grad=True)
    program = wg.trace(lambda: (w * w).log().sum().backward())()
    assert "all agree" in words(program.check())
    wrong = program.with_fault(2, "exp").check()
    assert "WRONG" in words(wrong) and "disagree" in words(wrong)
    bad = wg.trace(lambda: wg.log(w - 5))().first_bad()
    assert bad is not None and "holds NaN" in words(bad)
    assert "no difference" in words(wg.study.diff(program, program))
    stepper = program.stepper()
    assert "before line 1" in words(stepper)
    stepper.forward()
    assert "w * w" in words(stepper)
    assert "nothing to check" in words(wg.trace(lambda: w * 2)().check())


# ---- schedules


def make(kind: str, optimizer: optim.Optimizer) -> optim.LRScheduler:
    given: dict[str, tuple[Any, ...]] = {
        "StepLR": (3,),
        "MultiStepLR": ([2, 5],),
        "ExponentialLR": (0.9,),
        "CosineAnnealingLR": (9,),
        "LinearLR": (),
        "ConstantLR": (),
        "LambdaLR": (lambda e: 1 / (1 + e),),
        "MultiplicativeLR": (lambda e: 0.95,),
        "PolynomialLR": (8,),
        "CosineAnnealingWarmRestarts": (3, 2),
        "CyclicLR": (0.01, 0.1, 4),
        "OneCycleLR": (0.1, 12),
        "SWALR": (0.01,),
    }
    if kind == "SequentialLR":
        parts = [optim.LinearLR(optimizer, total_iters=4), optim.CosineAnnealingLR(optimizer, 8)]
        return optim.SequentialLR(optimizer, parts, [4])
    made: optim.LRScheduler = getattr(optim, kind)(optimizer, *given[kind])
    return made


@pytest.mark.parametrize(
    "kind",
    [
        *("StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "LinearLR", "ConstantLR"),
        *("LambdaLR", "MultiplicativeLR", "PolynomialLR", "CosineAnnealingWarmRestarts"),
        *("CyclicLR", "OneCycleLR", "SWALR", "SequentialLR"),
    ],
)
def test_curves_of_schedules_are_what_steps_make(kind: str) -> None:
    def fresh() -> optim.LRScheduler:
        weights = [wg.tensor(1.0, requires_grad=True) for _ in range(2)]
        groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.02}]
        return make(kind, optim.SGD(groups, lr=0.1, momentum=0.9))

    schedule, shown_one = fresh(), fresh()
    for epoch in range(11):
        assert shown_one._lrs_of(epoch) == pytest.approx(schedule.get_last_lr())
        schedule.optimizer.step()
        schedule.step()
    before = copy.deepcopy(shown_one.state_dict())
    read = shown(schedule)
    assert schedule._lrs_of(0) == pytest.approx(shown_one.get_last_lr())
    assert read.text[0] == schedule._kind() and "step 11" in read.text[1]
    assert len(read.found["svg"]) == 1 and "viewbox" in read.found["svg"][0]
    assert shown_one.state_dict() == before


def test_schedules_without_a_curve() -> None:
    optimizer = optim.SGD([wg.tensor(1.0, requires_grad=True)], lr=0.1)
    text = words(optim.ReduceLROnPlateau(optimizer))
    assert "follows the metric" in text and "0 of 10" in text
    ends = optim.LambdaLR(optimizer, [1.0, 0.5].__getitem__)  # a list that ends
    assert len(shown(ends).found["svg"]) == 1


def test_finder() -> None:
    found = LRFinder([1e-3, 1e-2, 1e-1], [2.0, 1.0, 3.0], 1e-2)
    read = shown(found)
    assert "suggestion 0.01" in read.text and "0.001" in read.text and len(read.found["svg"]) == 1
    assert "not finite" in words(LRFinder([], [], None))


# ---- in Jupyter


def test_ipython_takes_them() -> None:
    pytest.importorskip("IPython", reason="IPython is not installed")
    from IPython.core.formatters import DisplayFormatter

    model = nn.Linear(2, 1)
    schedule = optim.StepLR(optim.SGD(model.parameters(), lr=0.1), 3)
    for thing in (wg.zeros((2,)), model, schedule, wg.compile(model.forward)):
        data, _ = DisplayFormatter().format(thing)
        assert data["text/html"] == thing._repr_html_() and data["text/plain"]


# ---- the widget


def small() -> wg.study.Program:
    w = wg.tensor([[0.5], [-1.0]], requires_grad=True)

    def step() -> None:
        h = wg.sigmoid(wg.tensor([[1.0, 2.0]]) @ w)
        loss = h.square().mean()
        loss.backward()

    return wg.trace(step)()


def test_widget() -> None:
    pytest.importorskip("anywidget", reason='pip install "wengert[notebook]"')
    program = small()
    widget = program.widget()
    h, line = program.value("h").number, program.value("h").line
    widget.position = line + 1
    assert widget.stepper.position == line + 1
    widget.edits = [[line, h, 0, 0.25]]  # as the page sends them
    assert widget.stepper.position == line + 1
    assert widget.stepper.array("h").item() == 0.25
    before, after = widget.stepper.differences()["w"]
    assert not np.allclose(before, after)
    widget.edits = []
    assert np.allclose(*widget.stepper.differences()["w"])
    with pytest.raises(Exception, match=f"{len(program)}"):
        widget.position = len(program) + 1
    program.core = None
    with pytest.raises(wg.study.StudyError, match="read from a file"):
        program.widget()
    with pytest.raises(wg.study.StudyError, match="the list is empty"):
        wg.trace(lambda: None)().widget()


def test_widget_without_anywidget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match=r'pip install "wengert\[notebook\]"'):
        small().widget()
