"""wengert.study: what was traced, that it runs again with the same bits, and that what is wrong is
found."""

import contextlib
import cProfile
import html
import inspect
import json
import math
import os
import pty
import random
import re
import runpy
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import ROWS, Row

import wengert as wg
from wengert import cli, nn, optim
from wengert.study import Program, StudyError, load
from wengert.study.drills import DRILLS, drill, mutants, sound
from wengert.study.run import statistics

ROOT = Path(__file__).parent.parent


NAMES = ("</script><img src=x>", "<!--<script>", "]]>", "\u2028", "TITLE", "DATA_HERE", "a\"b'")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_ends_the_data_of_the_page(tmp_path: Path, name: str) -> None:
    class Named(nn.Module):
        def forward(self, x: wg.Tensor) -> wg.Tensor:
            y: wg.Tensor = vars(self)[name](x)
            return y

    model = Named()
    setattr(model, name, nn.Linear(3, 2))
    page = wg.trace(model)(wg.ones((2, 3))).to_html(tmp_path / "p.html", title=name)
    text = page.read_text(encoding="utf-8")
    data = text.split('<script id="data" type="application/json">')[1].split("</script>")[0]
    assert "<" not in data
    found = json.loads(data)
    assert found["title"] == name and found["lines"][0]["layer"] == name
    assert f"<title>{html.escape(name)}</title>" in text and len(re.findall("<script", text)) == 2


def leaf(*shape: int, seed: int = 0, dtype: str = "float64") -> wg.Tensor:
    array = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return wg.tensor(array.astype(dtype), requires_grad=True)


class Net:
    """10-5-1 with names of its own, and its step."""

    def __init__(self, dtype: str = "float64") -> None:
        self.w1, self.b1 = leaf(10, 5, dtype=dtype), leaf(5, dtype=dtype)
        self.w2, self.b2 = leaf(5, 1, dtype=dtype), leaf(1, dtype=dtype)
        rng = np.random.default_rng(1)
        self.x = wg.tensor(rng.standard_normal((8, 10)).astype(dtype))
        self.y = wg.tensor((rng.random((8, 1)) > 0.5).astype(dtype))

    def step(self, x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
        w1, b1, w2, b2 = self.w1, self.b1, self.w2, self.b2
        h = wg.sigmoid(x @ w1 + b1)
        z = h @ w2 + b2 + h.sum(1, keepdims=True)
        loss = wg.binary_cross_entropy_with_logits(z, y)
        loss.backward()
        return loss

    def program(self) -> Program:
        return wg.trace(self.step)(self.x, self.y)


def training(steps: int = 1, dtype: str = "float32", **options: Any) -> Program:
    """A classifier's step with an optimizer, after one step that made its state."""
    wg.manual_seed(0)
    model = nn.MLP([6, 8, 3], activation="tanh", dtype=dtype, **options)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    x = wg.tensor(np.random.default_rng(0).standard_normal((5, 6)).astype(dtype))
    y = wg.tensor([0, 1, 2, 1, 0])

    def step(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
        optimizer.zero_grad()
        logits = model(x)
        loss = wg.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(steps):
        step(x, y)
    return wg.trace(step)(x, y)


# ---- the list


@pytest.mark.smoke
def test_names_formulas_and_sources() -> None:
    text = str(Net().program())
    assert "h: float64[8, 5] = sigmoid(add1)" in text
    assert "dw1 = transpose(x) @ dmatmul1" in text
    assert re.search(r"test_study\.py:\d+  h = wg\.sigmoid\(x @ w1 \+ b1\)", text)
    assert "dadd1 = dh * h * (1 - h)" in text


def test_layers_and_parameters_are_named_by_the_module() -> None:
    program = training()
    names = {value.name for value in program.values}
    assert {"0.weight", "0.bias", "2.weight", "d0.weight", "linear0", "logits", "options"} <= names
    assert {"m(0.weight)", "v(2.bias)"} <= names
    assert {line.layer for line in program.lines} >= {"linear0", "tanh1", "linear2"}
    update = program.lines[-1]
    assert update.op == "adam_step" and update.phase == "update"
    assert set(program.gradients()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.smoke
def test_backward_lines_answer_forward_lines() -> None:
    program = Net().program()
    for answer in program.answers:
        asked = program.line(answer.line)
        assert asked.recorded and asked.phase == "forward"
        for n in range(answer.first, answer.last + 1):
            assert program.line(n).phase == "backward"
            assert program.line(n).layer == asked.layer
    answered = {answer.line for answer in program.answers}
    assert answered == {line.number for line in program.lines if line.recorded}


@pytest.mark.smoke
def test_a_step_is_as_without_tracing() -> None:
    """The same losses, gradients and weights, bit by bit, whether somebody watches or not."""
    plain: Any = None
    for traced in (False, True):
        wg.manual_seed(3)
        model = nn.MLP([4, 8, 2], dropout=0.3)
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        x, y = wg.randn((6, 4)), wg.randint(0, 2, (6,))

        def step(x: wg.Tensor, y: wg.Tensor) -> float:
            optimizer.zero_grad()  # noqa: B023
            loss = wg.cross_entropy(model(x), y)  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            return loss.item()

        losses = [wg.trace(step)(x, y).returned if traced else step(x, y) for _ in range(4)]
        found = losses, [p.detach().tolist() for p in model.parameters()]
        if traced:
            assert found == plain
        plain = found


@pytest.mark.smoke
def test_replay_has_the_bits_of_the_step() -> None:
    net = Net("float32")
    program = net.program()
    gradients = program.gradients()
    for name in ("w1", "b1", "w2", "b2"):
        grad = getattr(net, name).grad
        assert grad is not None and gradients[name].tobytes() == grad.numpy().tobytes()


def test_replay_starts_from_before_the_step_and_leaves_the_users_tensors_alone() -> None:
    w = leaf(3)
    before = w.detach().numpy().copy()

    def step() -> None:
        (w * w).sum().backward()
        with wg.no_grad():
            w.sub_(0.5 * w.grad)

    program = wg.trace(step)()
    after = w.detach().numpy().copy()
    run = program.run()
    number = program.value("w").number
    np.testing.assert_array_equal(run.array(number), before)
    run.to_end()
    np.testing.assert_array_equal(run.array(number), after)
    run.to(0)
    np.testing.assert_array_equal(run.array(number), before)
    np.testing.assert_array_equal(w.detach().numpy(), after)


def test_saved_bytes_and_until_when() -> None:
    program = Net().program()
    sigmoid = next(line for line in program.lines if line.op == "sigmoid")
    assert sigmoid.saved == [sigmoid.output]
    assert sigmoid.kept_until == program.answers_to(sigmoid)[0].last
    assert program.saved_bytes() == (8 * 5 + 8) * 8  # h and z; the rest lies outside


@pytest.mark.smoke
def test_costs_sums_and_times() -> None:
    program = training()
    sums = program.per_layer()
    assert sum(s["forward flops"] for s in sums.values()) == sum(
        line.flops for line in program.lines if line.phase == "forward"
    )
    matmul = next(line for line in program.lines if line.op == "matmul")
    assert matmul.flops == 2 * 5 * 6 * 8 and matmul.intensity == matmul.flops / matmul.bytes
    text = program.costs()
    assert "sums per layer" in text and "linear0" in text and "in all" in text


def test_forward_alone_and_no_ops() -> None:
    program = wg.trace(lambda x: (x * 2).sum())(wg.ones(3))
    assert "no backward() was called" in str(program)
    assert program.check().rows == [] and "nothing to check" in str(program.check())
    empty = wg.trace(lambda: 3)()
    assert empty.returned == 3 and "ran no op" in str(empty)
    with pytest.raises(StudyError, match="list is empty"):
        empty.line(1)


def test_a_compiled_step_is_traced_through() -> None:
    step = wg.compile(lambda x: (x * 2).sum())
    for _ in range(3):
        step(wg.ones(3))
    assert [line.op for line in wg.trace(step)(wg.ones(3)).lines] == ["mul", "sum"]


def test_grad_accumulation_across_backwards_and_second_derivatives() -> None:
    x = leaf(4)

    def step() -> None:
        f = (x * x * x).sum()
        g = wg.grad(f, x, create_graph=True)
        (g * g).sum().backward()

    program = wg.trace(step)()
    checks = program.check()
    assert checks, checks
    array = x.detach().numpy()
    np.testing.assert_allclose(program.gradients()["x"], 36 * array**3)
    assert any(line.answer is not None and program.answers_to(line) for line in program.lines)


def test_attributes_keep_their_types_also_in_a_file(tmp_path: Path) -> None:
    x = wg.ones((2, 3))
    program = wg.trace(lambda: x.clamp(min=0.1).sum(1, keepdims=True).reshape((2,)))()
    program.to_json(tmp_path / "p.json")
    for p in (program, load(tmp_path / "p.json")):
        assert [line.attributes for line in p.lines] == [
            {"min": 0.1, "max": math.inf}, {"axis": (1,), "keepdims": True}, {"shape": (2,)},
        ]  # fmt: skip
        assert p.expression(p.lines[0]) == "min(max(x, 0.1), inf)"


def test_gradients_are_named_by_operand() -> None:
    q, w, b = leaf(1, 1, 3, 4), leaf(4), leaf(4)

    def step() -> None:
        h = wg.nn.functional.layer_norm(q, (4,), w, b)
        wg.scaled_dot_product_attention(h, q, q).sum().backward()

    text = wg.trace(step)().listing(width=400)
    for told in ("dw = sum(", "db = sum(", "= transpose(p) @ "):
        assert told in text, told


def test_files_of_study_import_only_to_the_left() -> None:
    folder = ROOT / "python" / "wengert" / "study"
    stated = re.search(r"list < .*?\.", (folder / "__init__.py").read_text(), re.DOTALL)
    assert stated is not None
    rank = {
        name: i for i, part in enumerate(stated[0].rstrip(".").split("<"))
        for name in re.findall(r"\w+", part)
    }  # fmt: skip
    files = {p.stem: p.read_text() for p in folder.glob("*.py") if p.stem != "__init__"}
    assert set(files) == set(rank)
    for name, text in files.items():
        for imported in re.findall(r"^\s*from \.(\w+) import", text, re.MULTILINE):
            assert rank[imported] < rank[name], f"{name} imports {imported}"


def test_functions_of_study_are_no_modules() -> None:
    wg.trace(lambda: wg.ones(2) + 1.0)()  # loads the package's files
    assert all(callable(getattr(wg.study, name)) for name in wg.study.__all__)


# ---- checking


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.smoke
def test_check_of_a_training_step(dtype: str) -> None:
    checks = training(dtype=dtype, dropout=0.5).check()
    assert checks, checks
    kinds = [row.kind for row in checks.rows]
    assert kinds.count("gradient") == 4 and kinds.count("vjp") >= 12


def test_check_counts_outputs_at_kinks() -> None:
    x = wg.tensor([0.0, 1.0, -1.0], requires_grad=True)

    def step() -> None:
        (wg.relu(x) * 3.0).sum().backward()

    checks = wg.trace(step)().check()
    row = next(row for row in checks.rows if row.name.startswith("relu"))
    assert row.ok and row.left_out == 1 and "kink" in row.note


@pytest.mark.parametrize("name", DRILLS)
@pytest.mark.smoke
def test_check_finds_every_drill(name: str) -> None:
    d = drill(name)
    checks = d.program.check()
    assert not checks
    planted = [n for n in d.lines if n in d.program.faults]
    for n in planted:  # the disagreeing line is the one that the wrong line answers
        answer = d.program.line(n).answer
        if answer is not None:
            assert d.program.answers[answer].line in checks.lines
    assert d.hints and d.reason and all(1 <= n <= len(d.program) for n in d.lines)


@pytest.mark.parametrize("kind", ["bce", "mse", "softmax"])
def test_check_finds_every_mutant(kind: str) -> None:
    program = sound(kind)
    checks = program.check()
    assert checks, checks
    wrong = list(mutants(program))
    assert len(wrong) > 60
    survivors = [m.call(m.line(next(iter(m.faults)))) for m in wrong if m.check()]
    assert survivors == []


def test_a_planted_op_needs_the_lines_own_attributes() -> None:
    """max reads axes, which a mean's line has and a clamp's does not."""
    program = wg.trace(lambda x: x.clamp(-1, 1).mean(0))(wg.ones((3, 3)))
    clamp, mean = program.lines
    assert (
        program.with_fault(mean.number, "max").call(mean)
        == "max(clamp1, axis=(0,), keepdims=False)"
    )
    with pytest.raises(ValueError, match="has no such attributes"):
        program.with_fault(clamp.number, "max")


def test_faults_that_do_not_fit_are_refused() -> None:
    program = Net().program()
    line = next(line for line in program.lines if line.op == "sigmoid")
    with pytest.raises(ValueError, match="operands"):
        program.with_fault(line.number, "add")
    with pytest.raises(ValueError, match="no op"):
        program.with_fault(line.number, "nonsense")
    with pytest.raises(wg.ShapeError):
        program.with_fault(line.number, "sigmoid", ["w1"])


@pytest.mark.smoke
def test_first_bad_forward_backward_and_from_outside() -> None:
    x = wg.tensor([1.0, 0.0, 4.0], requires_grad=True)

    def backward_is_bad() -> None:
        wg.sqrt(x).sum().backward()

    bad = wg.trace(backward_is_bad)().first_bad()
    assert bad is not None and bad.line is not None
    assert bad.line.op == "sqrt_vjp" and bad.what == "infinity" and bad.element == (1,)
    assert "in the gradient of 'sqrt'" in str(bad) and "test_study.py" in str(bad)

    bad = wg.trace(lambda v: wg.log(v - 1.0))(wg.tensor([3.0, 0.5])).first_bad()
    assert bad is not None and "made by 'log'" in str(bad) and "from -0.5 to 2" in str(bad)

    bad = wg.trace(lambda v: v + 1.0)(wg.tensor([1.0, float("nan")])).first_bad()
    assert bad is not None and bad.line is None and "from outside" in str(bad)
    assert Net().program().first_bad() is None


@pytest.mark.smoke
def test_diff() -> None:
    program = Net("float32").program()
    assert not wg.study.diff(program, Net("float32").program())
    wide = wg.study.diff(program, program.double(), allowed=0)
    assert wide and wide.line == 1 and 0 < wide.ulps < 1000
    changed = Net("float32")
    with wg.no_grad():
        changed.b2.add_(1e-3)
    found = wg.study.diff(program, changed.program())
    assert program.line(found.line).op == "add" and "ulp" in str(found)
    other = wg.trace(lambda x: wg.tanh(x @ Net("float32").w1))(Net("float32").x)
    assert "lists part at line 1" in str(wg.study.diff(program, other))


# ---- stepping


@pytest.mark.smoke
def test_stepping_forward_and_back() -> None:
    program = training()
    stepper = program.stepper()
    for line in program.lines:
        assert stepper.forward() is line
    end = {v.number: stepper.run.array(v.number) for v in program.values}
    stepper.back(len(program))
    assert stepper.line is None and stepper.back() is None
    stepper.to(len(program))
    for number, array in end.items():
        assert stepper.run.array(number).tobytes() == array.tobytes()
    assert stepper.forward() is program.lines[-1]


def test_going_to_layers_breaks_and_the_largest_gradient() -> None:
    program = training()
    stepper = program.stepper()
    line = stepper.to_layer("linear2")
    assert line is not None and line.layer == "linear2"
    stepper.to(0)
    stepper.break_on("tanh")
    line = stepper.go_on()
    assert line is not None and line.op == "tanh"
    largest = stepper.to_largest_gradient()
    assert largest is not None and largest.phase == "backward"
    for what in (lambda: stepper.to_layer("no such"), lambda: stepper.break_on("no such")):
        with pytest.raises(StudyError, match="no such"):
            what()
    with pytest.raises(StudyError, match="no NaN"):
        stepper.to_first_bad()
    with pytest.raises(StudyError, match=r"no line 999; the list has lines 1 to \d+"):
        stepper.to(999)


def test_contributions_add_up_exactly() -> None:
    program = Net("float32").program()
    stepper = program.stepper()
    parts = stepper.contributions("h")
    assert len(parts) == 2 and {part.consumer for part in parts} == {"sum1", "matmul2"}
    total = stepper.gradient("h")
    stepper.to(len(program))
    assert total is not None and total.tobytes() == stepper.array("dh").tobytes()


def test_edits_change_what_follows_and_can_be_taken_back() -> None:
    net = Net()
    program = net.program()
    stepper = program.stepper()
    with pytest.raises(StudyError, match="made by line"):
        stepper.edit("h", 1.0)
    stepper.to(next(line.number for line in program.lines if line.op == "sigmoid"))
    stepper.edit("h", 0.25, at=(2, 3))
    before, after = stepper.differences()["w2"]
    change = after - before
    # dw2 = h.T @ dz: column 3 of h has changed, and the third sample's dz.
    assert np.abs(change).max() > 0
    h = stepper.array("h")
    assert h[2, 3] == 0.25
    z = h @ net.w2.detach().numpy() + net.b2.detach().numpy() + h.sum(1, keepdims=True)
    dz = (1 / (1 + np.exp(-z)) - net.y.numpy()) / len(z)
    np.testing.assert_allclose(after, h.T @ dz, rtol=1e-12)
    stepper.to(0)
    stepper.to(len(program))
    np.testing.assert_array_equal(stepper.run.array(program.gradient_of("w2").number), after)
    stepper.forget_edits()
    assert all(np.array_equal(a, b) for a, b in stepper.differences().values())
    with pytest.raises(StudyError, match="cannot be set"):
        stepper.edit("h", 1.0, at=(99, 0))


def test_a_cotangent_can_be_edited() -> None:
    program = Net().program()
    stepper = program.stepper()
    answer = next(a for a in program.answers if program.line(a.line).op == "sigmoid")
    stepper.to(answer.first - 1)
    stepper.edit(answer.gradient, 0.0)
    changes = stepper.differences()
    assert not np.any(changes["w1"][1]) and np.array_equal(*changes["w2"])


def test_statistics() -> None:
    s = statistics(np.array([0.0, -1.0, np.nan, np.inf, 3.0]))
    assert (s["min"], s["max"], s["zeros"], s["bad"], s["size"]) == (-1.0, 3.0, 1, 2, 5)
    assert sum(s["histogram"]) == 3
    assert statistics(np.zeros((0, 3)))["min"] is None


# ---- files and code


@pytest.mark.smoke
def test_json_loads_back(tmp_path: Path) -> None:
    program = training().measure()
    program.to_json(tmp_path / "p.json")
    again = load(tmp_path / "p.json")
    assert str(again) == str(program) and again.costs() == program.costs()
    assert again.to_json() == program.to_json() and again.to_dot() == program.to_dot()
    with pytest.raises(StudyError, match="read from a file"):
        again.stepper()
    text = json.loads(program.to_json())
    for change, message in (({"format": "x"}, "not a program"), ({"version": 99}, "version 99")):
        (tmp_path / "q.json").write_text(json.dumps({**text, **change}))
        with pytest.raises(StudyError, match=message):
            load(tmp_path / "q.json")
    del text["lines"][0]["op"]
    (tmp_path / "q.json").write_text(json.dumps(text))
    with pytest.raises(StudyError, match="lacks"):
        load(tmp_path / "q.json")
    (tmp_path / "q.json").write_text("{")
    with pytest.raises(StudyError, match="not JSON"):
        load(tmp_path / "q.json")


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (["lines"], 5, "has 5 as lines; expected list"),
        (["values"], ["a"], r"has a as values\[0\]; expected Value"),
        (["values", 1], {}, r"lacks values\[1\]"),
        (["values", 1, "shape"], [-1], "has -1 as a size of value 1"),
        (["values", 1, "number"], 2, "has 2 as the number of value 1"),
        (["values", 1, "name"], None, r"has None as values\[1\].name; expected str"),
        (["lines", 0, "inputs"], [9999], "has 9999 as a value of line 1; it must be 0 to"),
        (["lines", 0, "inputs"], "ab", r"as lines\[0\].inputs; expected list"),
        (["lines", 0, "op"], 5, r"has 5 as lines\[0\].op; expected str"),
        (["lines", 0, "inputs", 0], True, r"has True as lines\[0\].inputs\[0\]; expected int"),
        (["lines", 0, "attributes"], {"a": None}, r"has None as lines\[0\].attributes\['a'\]"),
        (["lines", 0, "flops"], "many", "expected float"),
        (["lines", 0, "phase"], "sideways", "has 'sideways' as the phase"),
        (["lines", 0, "answer"], 99, "has 99 as the answer of line 1"),
        (["lines", 0], {}, r"lacks lines\[0\]"),
        (["answers", 0, "line"], 0, "the line of answer 0; it must be 1 to"),
        (["answers", 0, "last"], 10**9, "the last line of answer 0"),
        (["answers", 0, "gave"], [5], "expected Contribution"),
        (["roots"], [[0]], r"as roots\[0\]; expected tuple"),
        (["leaf_gradients", 0], [0, -2, 0], "has -2 as a value of a leaf's gradient"),
        (["results"], [1.5], r"as results\[0\]; expected int"),
        (["notes"], [None], "expected str"),
        (["stopped"], 5, "has 5 as stopped; expected str"),
        (["memory"], None, "has None as memory"),
    ],
)
def test_json_that_is_no_program(tmp_path: Path, place: list[Any], value: Any, says: str) -> None:
    text = json.loads(training().to_json())
    *path, last = place
    at = text
    for key in path:
        at = at[key]
    at[last] = value
    (tmp_path / "p.json").write_text(json.dumps(text))
    with pytest.raises(StudyError, match=says):
        load(tmp_path / "p.json")


def test_json_that_is_damaged_gives_a_program_or_says_so(tmp_path: Path) -> None:
    rng = random.Random(0)
    good = training().to_json()
    values = [None, True, -1, 3, 2**70, 1e999, "", "slice", "where", [], [0], {}, {"axis": "x"}]
    read = 0
    for _ in range(300):
        text = at = json.loads(good)
        while True:
            key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], (dict, list)) or not at[key] or rng.random() < 0.1:
                break
            at = at[key]
        if rng.random() < 0.3:
            del at[key]
        else:
            at[key] = rng.choice(values)
        (tmp_path / "p.json").write_text(json.dumps(text))
        try:
            program = load(tmp_path / "p.json")
            assert str(program) and program.costs() and program.to_dot() and program.to_json()
            read += 1
        except StudyError:
            pass
    assert read > 20
    for data in (b"\xff{}", b"[" * 100_000, b'{"format": "wengert.study", "version": 2}', b""):
        (tmp_path / "p.json").write_bytes(data)
        with pytest.raises(StudyError):
            load(tmp_path / "p.json")


def test_dot_names_every_line() -> None:
    program = training()
    dot = program.to_dot()
    assert dot.startswith("digraph") and dot.count("fillcolor") >= len(program)
    assert all(f"  l{line.number} [" in dot for line in program.lines)


def many_ops(x: wg.Tensor) -> wg.Tensor:
    """Most of what the elementwise and shape ops can do, in one gradient."""
    y = wg.exp(x * 0.1) + wg.log1p(x.square()) + wg.sqrt(x.square() + 1.0) - wg.tanh(x) / 3.0
    y = y + wg.silu(x) + wg.gelu(x) + wg.gelu(x, "tanh") + wg.softplus(x) + wg.elu(x)
    y = y + wg.leaky_relu(x, 0.1) + wg.clamp(x, -0.5, 0.5) + wg.maximum(x, -x) + wg.abs(x)
    y = y * wg.where(x > 0.0, x, x * 0.5) + wg.softmax(y, 1) + wg.log_softmax(y, 0)
    z = wg.concatenate([y[1:], y[:1]], 0) + wg.erf(y) + wg.sin(y) * wg.cos(x)
    rows = z[wg.tensor([0, 2, 2])]
    return wg.logsumexp(rows, 1).sum() + z.mean() + z.max(1).sum() + z[:, ::2].sum()


@pytest.mark.parametrize(
    "f",
    [
        wg.abs, wg.exp, wg.expm1, wg.log, wg.log1p, wg.sqrt, wg.rsqrt, wg.square, wg.sin, wg.tanh,
        wg.sigmoid, wg.relu, wg.leaky_relu, wg.elu, wg.gelu, lambda x: wg.gelu(x, "tanh"), wg.silu,
        wg.exp2, wg.log2, wg.log10, wg.reciprocal, wg.tan, wg.asin, wg.acos, wg.atan, wg.asinh,
        wg.acosh, wg.atanh, wg.hardtanh, wg.mish, wg.hardswish, lambda x: wg.atan2(x, x),
        lambda x: wg.hypot(x, 2 * x), lambda x: wg.logaddexp(x, -x), lambda x: wg.xlogy(x, x),
        lambda x: wg.fmod(x, 1.5), lambda x: wg.copysign(x, -x), wg.trunc, wg.sinh, wg.cosh,
        wg.softplus, wg.erf, lambda x: x.clamp(-1, 2), lambda x: 1 / x, lambda x: x * x.log(),
        lambda x: wg.leaky_relu(x, 0.0), lambda x: x.reshape((3, 4)).logsumexp(1),
        lambda x: x.reshape((3, 4)).softmax(1), lambda x: x.reshape((3, 4)).log_softmax(1),
        lambda x: wg.binary_cross_entropy_with_logits(x, (x > 0).double(), reduction="none"),
    ],
)  # fmt: skip
@pytest.mark.smoke
def test_numpy_code_gives_the_same_at_infinities(f: Any, tmp_path: Path) -> None:
    """And where no gradient arrives, whatever the slope."""
    x = np.array([math.inf, -math.inf, 0.0, 1.5, -2.0, 1.0, math.nan, 1e4, -math.inf, -math.inf,
                  -math.inf, -math.inf])  # fmt: skip
    leaf = wg.tensor(x, requires_grad=True)
    y = f(leaf)
    arrives = wg.tensor([1.0, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0], dtype="float64")
    arrives = arrives.reshape(y.shape) if y.numel() == 12 else wg.ones((3,), "float64")

    def step() -> None:
        wg.backward([f(leaf)], [arrives])

    program = wg.trace(step)()
    with np.errstate(all="ignore"):
        program.to_numpy(tmp_path / "step.py")
        scope = runpy.run_path(str(tmp_path / "step.py"))
        source = (tmp_path / "step.py").read_text()
        inputs = re.search(r"    inputs = \{\n.*?\n    \}", source, re.DOTALL)
        assert inputs is not None
        local: dict[str, Any] = {"np": np}
        exec(inputs[0].strip(), local)
        _, gradients = scope["step"](**local["inputs"])
    ((_, expected),) = program.gradients().items()
    (found,) = gradients.values()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


SPECIAL = (math.inf, -math.inf, 0.0, -0.0, 1.5, -2.0, 2.5, 1e4, -1e4, math.nan, 0.5, -1.0)
ELEMENTWISE = [
    row for row in ROWS
    if row.elementwise and wg._core.tensor(row.draw(row.shapes[0])[-1]).dtype.is_floating_point
]  # fmt: skip


def check_numpy_code(step: Any, rtol: float, atol: float = 1e-300) -> None:
    """Results and gradients of the code are the step's."""
    program = wg.trace(step)()
    with np.errstate(all="ignore"):
        scope: dict[str, Any] = {}
        exec(program.to_numpy(), scope)
        run = program.run()
        inputs = inspect.signature(scope["step"]).parameters
        arrays = {
            re.sub(r"\W+", "_", v.name).strip("_"): run.array(v.number) for v in program.values
        }
        results, gradients = scope["step"](**{name: arrays[name] for name in inputs})
        run.to_end()
    for name, found in results.items():
        expected = run.array(program.value(name).number)
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
    assert set(gradients) == set(program.gradients())
    for name, expected in program.gradients().items():
        np.testing.assert_allclose(gradients[name], expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_an_ops_own_numpy_computes_what_the_op_does(row: Row) -> None:
    """The source that each elementwise op writes, and that of its gradient, at special values."""
    n = len(SPECIAL)
    values = [np.repeat(SPECIAL, n), np.tile(SPECIAL, n), np.roll(np.tile(SPECIAL, n), 5)]
    given = []
    for drawn, x in zip(row.draw(row.shapes[0]), values[-len(row.inputs) :], strict=True):
        given.append(wg.tensor(x.astype(drawn.dtype)))
        if drawn.dtype.kind == "f" and row.gradient:
            given[-1].requires_grad_()

    def step() -> wg.Tensor:
        y: wg.Tensor = row.call(*given)
        if y.requires_grad:
            wg.backward([y], [wg.tensor(values[0]).to(y.dtype)])
        return y

    check_numpy_code(step, 1e-12)


OTHERS = [row for row in ROWS if not row.elementwise and row.inputs]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row.name)
def test_the_numpy_of_the_other_ops_computes_what_they_do(row: Row) -> None:
    for shapes in row.shapes:
        given = [
            wg.tensor(x, requires_grad=row.gradient and x.dtype.kind == "f")
            for x in row.draw(shapes)
        ]
        g = wg.rand(row.call(*given).shape, "float64", wg.Generator(0))

        def step(given: list[wg.Tensor] = given, g: wg.Tensor = g) -> wg.Tensor:
            y: wg.Tensor = row.call(*given)
            if y.requires_grad:
                wg.backward([y], [g])
            return y

        check_numpy_code(step, 1e-9, 1e-12)


def test_a_trace_under_a_profiler_leaves_it_on() -> None:
    profiler = cProfile.Profile()
    with profiler:
        assert [line.op for line in wg.trace(lambda: wg.ones((2,)).exp())().lines][-1] == "exp"
        "after it".upper()
    names = {entry.code for entry in profiler.getstats()}
    assert any("upper" in str(name) for name in names)


def test_numpy_code_gives_the_same_gradients(tmp_path: Path) -> None:
    x = leaf(4, 6, seed=5)

    def step() -> wg.Tensor:
        loss = many_ops(x)
        loss.backward()
        return loss

    wg.manual_seed(0)
    embedding, norm = nn.Embedding(9, 6, dtype="float64"), nn.LayerNorm(6, dtype="float64")
    ids = wg.tensor([[1, 2, 3], [4, 2, 8]])

    def attends() -> None:
        h = norm(embedding(ids)).reshape((2, 3, 2, 3)).transpose(1, 2)
        causal = wg.scaled_dot_product_attention(h, h * 0.5, h + 1.0, is_causal=True)
        (wg.scaled_dot_product_attention(causal, h, h) * h).mean().backward()

    for name, program in (
        ("ops", wg.trace(step)()),
        ("attention", wg.trace(attends)()),
        ("net", Net().program()),
        ("training", training(dropout=0.4)),
    ):
        assert program.check(), program.check()
        program.to_numpy(tmp_path / f"{name}.py")
        scope = runpy.run_path(str(tmp_path / f"{name}.py"))
        source = (tmp_path / f"{name}.py").read_text()
        assert "import wengert" not in source
        inputs = re.search(r"    inputs = \{\n.*?\n    \}", source, re.DOTALL)
        assert inputs is not None
        local: dict[str, Any] = {"np": np}
        exec(inputs[0].strip(), local)
        _, gradients = scope["step"](**local["inputs"])
        for leaf_name, expected in program.gradients().items():
            tolerance = 1e-12 if expected.dtype == np.float64 else 2e-5
            np.testing.assert_allclose(
                gradients[leaf_name], expected, rtol=tolerance, atol=tolerance, err_msg=name
            )
        done = subprocess.run([sys.executable, tmp_path / f"{name}.py"], capture_output=True)
        assert done.returncode == 0, done.stderr


def test_numpy_code_of_large_inputs_goes_beside_it(tmp_path: Path) -> None:
    w = leaf(200, 150)

    def step(x: wg.Tensor) -> None:
        (x @ w).sum().backward()

    program = wg.trace(step)(wg.ones((2, 200), dtype="float64"))
    program.to_numpy(tmp_path / "big.py")
    assert (tmp_path / "big.npz").is_file()
    done = subprocess.run(
        [sys.executable, "big.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "gradient of w (200, 150)" in done.stdout


# ---- bad input


def test_what_is_raised_keeps_what_was_recorded() -> None:
    def step(x: wg.Tensor) -> None:
        y = x * 2.0
        y @ wg.ones(7)

    with pytest.raises(wg.ShapeError) as caught:
        wg.trace(step)(wg.ones((2, 3)))
    program = caught.value.program  # type: ignore[attr-defined]
    assert [line.op for line in program.lines][:1] == ["mul"]
    assert "ShapeError" in program.stopped and "recorded before" in caught.value.__notes__[0]


def test_a_branch_on_a_value_is_told() -> None:
    def step(x: wg.Tensor) -> wg.Tensor:
        return x * 2.0 if x.sum().item() > 0 else -x

    program = wg.trace(step)(wg.ones(3))
    assert len(program.notes) == 1 and "the way that it took" in str(program)


def test_lists_too_long_are_refused(tmp_path: Path) -> None:
    def step(x: wg.Tensor) -> None:
        for _ in range(100):
            x = x + 1.0

    with pytest.raises(ValueError, match="more than 50 lines"):
        wg.trace(step, max_lines=50)(wg.ones(2))
    program = wg.trace(step)(wg.ones(2))
    program.lines *= 300
    with pytest.raises(StudyError, match="too many for a page"):
        program.to_html(tmp_path / "x.html")


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="expected a function"):
        wg.trace(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"wengert\.trace returns"):
        wg.study.diff(3, 4)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="did you mean"):
        Net().program().value("dw3")


# ---- the command


def command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wengert", "study", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


SCRIPT = """
import sys
import wengert as wg
from wengert import nn, optim
wg.manual_seed(0)
model = nn.MLP([3, 4, 2])
optimizer = optim.SGD(model.parameters(), lr=0.1)
x, y = wg.randn((5, 3)), wg.tensor([0, 1, 0, 1, 1])
for _ in range(int(sys.argv[1])):
    optimizer.zero_grad()
    loss = wg.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
print("the end")
"""


def test_command_on_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = command(script, "--list", "--check", "9")
    assert done.returncode == 0, done.stderr
    assert "all agree" in done.stdout and "script.py:11  loss = wg.cross_entropy" in done.stdout
    assert "uniform" not in done.stdout  # the second step: no set-up before it
    assert "the end" not in done.stdout
    done = command(script, "--list", "1")  # it ends before a second step
    assert "the end" in done.stdout and "uniform" in done.stdout and "backward" in done.stdout
    for option, file in (("--html", "p.html"), ("--json", "p.json"), ("--numpy", "p.py"),
                         ("--dot", "p.dot")):  # fmt: skip
        done = command(script, option, tmp_path / file, "3")
        assert done.returncode == 0 and (tmp_path / file).is_file(), done.stderr
    done = command("--load", tmp_path / "p.json")
    assert done.returncode == 0 and "dlogits" not in done.stderr and "matmul" in done.stdout


def test_command_over_the_steps_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    page = tmp_path / "p.html"
    done = command(script, "--step", "9", "--every", "2", "--html", page, "20")
    assert done.returncode == 0, done.stderr
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text())
    assert data is not None
    d = json.loads(data[1].replace("<\\/", "</"))
    assert len(d["steps"]) == 5  # steps 2, 4, 6, 8 and 9
    assert {name for name, _ in d["gradients"]} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert all(None not in sizes for _, sizes in d["gradients"])


def test_each_option_of_the_command_changes_what_comes(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "v.csv").write_text("a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(20)))
    (tmp_path / "script.py").write_text(SCRIPT)

    def out(*arguments: Any) -> str:
        assert cli.main(["study", *map(str, arguments)]) == 0
        printed: str = capsys.readouterr().out
        return printed

    lists = [
        out("--list", *more)
        for more in (
            ["--layers", "4"], ["--layers", "5"], ["--layers", "4", "4"], ["--layers"],
            ["--layers", "4", "--batch", "3"], ["--layers", "4", "--data", tmp_path / "v.csv"], [],
        )
    ]  # fmt: skip
    assert len(set(lists)) == len(lists)
    assert lists[-1] == out(
        "--list", "--model", "mlp", "--layers", "16", "--batch", "8", "--data", "digits"
    )
    small = ["--layers", "4"]
    marks = {"--list": "backward, beside", "--costs": "FLOP/B", "--check": "all agree"}
    for option in marks:
        assert [mark for mark in marks.values() if mark in out(option, *small)] == [marks[option]]
    kinds = {"--html": "<!doctype html>", "--json": '"wengert.study"', "--numpy": "import numpy",
             "--dot": "digraph"}  # fmt: skip
    for option, mark in kinds.items():
        file = tmp_path / f"written{option}"
        assert f"wrote {file}" in out(option, file, *small)
        text = file.read_text().lower()
        assert [m for m in kinds.values() if m in text[:3000]][:1] == [mark]
    assert lists[0].splitlines()[1:9] == out("--load", tmp_path / "written--json").splitlines()[1:9]
    codes = []
    for step in ("1", "2", "3"):
        out(tmp_path / "script.py", "--step", step, "--numpy", tmp_path / "n.py", "9")
        codes.append((tmp_path / "n.py").read_text())
    assert len(set(codes)) == 3
    out(tmp_path / "script.py", "--numpy", tmp_path / "n.py", "9")
    assert (tmp_path / "n.py").read_text() == codes[1]
    assert cli.main(["study", str(tmp_path / "script.py"), "--model", "mlp"]) == 2
    assert "not both" in capsys.readouterr().err
    parsers = next(a for a in cli.build_parser()._actions if a.dest == "command").choices
    convolutions = ["--model", "convnet", "--batch", "2", "--list"]
    wide = out(*convolutions)
    assert (
        "batch_norm(" in wide
        and len({wide, *(out(*convolutions, o, "2") for o in ("--width", "--depth"))}) == 3
    )
    assert "all agree" in out("--model", "convnet", "--batch", "2", "--width", "2", "--check")
    out("--model", "convnet", "--width", "2", "--numpy", tmp_path / "n.py")
    assert subprocess.run([sys.executable, tmp_path / "n.py"]).returncode == 0
    assert cli.main(["study", "--model", "convnet", "--data", str(tmp_path / "v.csv")]) == 2
    assert "holds no images" in capsys.readouterr().err
    tested = {*marks, *kinds, "--layers", "--batch", "--data", "--model", "--load", "--step"}
    tested |= {"--width", "--depth"}
    elsewhere = {"--help", "--every", "--drill"}  # tests above and below,
    elsewhere |= {"--encode"}  # ... and test_cli.py
    assert isinstance(parsers, dict)
    assert {a.option_strings[-1] for a in parsers["study"]._actions if a.option_strings} == (
        tested | elsewhere
    )


@pytest.mark.smoke
def test_a_step_beyond_the_end_is_told(tmp_path: Path, capsys: Any) -> None:
    script, code = tmp_path / "script.py", tmp_path / "n.py"
    script.write_text(SCRIPT)
    told = {}
    for step in (3, 4, 100):
        for option in (["--list"], ["--numpy", str(code)]):
            assert cli.main(["study", str(script), "--step", str(step), *option, "3"]) == 0
            captured = capsys.readouterr()
            told[step, option[0]] = captured.out if option[0] == "--list" else captured.err
            assert option[0] == "--numpy" or not captured.err
    for option in ("--list", "--numpy"):
        assert "asked for" not in told[3, option]
        for step in (4, 100):
            says = f"step {step} was asked for, and the run made 3 optimizer steps: this is step 3"
            assert says in told[step, option]
    script.write_text("import wengert as wg\nx = wg.ones(3) * 2\n")
    assert cli.main(["study", str(script), "--list"]) == 0
    assert "made no optimizer steps: this is all of it" in capsys.readouterr().out
    script.write_text(SCRIPT + "(model(x) * 2).sum().backward()\n")
    assert cli.main(["study", str(script), "--list", "--step", "2", "1"]) == 0
    assert "made 1 optimizer step: this is what came after step 1" in capsys.readouterr().out


def test_a_loaded_list_does_not_reach_the_terminal_raw(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "p.json"
    w = wg.ones((2,)).requires_grad_()
    text = wg.trace(lambda: (w * 2.0).sum().backward())().to_json()
    file.write_text(text.replace('"op": "sum"', '"op": "s\\u001b[31mum\\u0007"'))
    for more in ([], ["--list"], ["--costs"]):
        assert cli.main(["study", "--load", str(file), *more]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out and "\x07" not in out and "s\\x1b[31mum" in out


def test_command_on_scripts_that_fail(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    assert "no script" in command(tmp_path / "none.py").stderr
    script.write_text("raise RuntimeError('at once')\n")
    done = command(script, "--list")
    assert done.returncode == 2 and "before it ran any op" in done.stderr
    script.write_text("import wengert as wg\nx = wg.ones(3) * 2\nraise RuntimeError('late')\n")
    done = command(script, "--list")
    assert done.returncode == 0 and "stopped early: RuntimeError: late" in done.stdout
    script.write_text("import wengert as wg\nx = wg.ones(3) * 2\n")
    assert "no backward() was called" in command(script, "--list").stdout
    assert "unrecognized" in command("--list", "--nonsense").stderr


def test_ctrl_c_leaves_what_was_recorded(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nimport wengert as wg\nx = wg.ones(3) * 2\nprint('now', flush=True)\n"
        "while True: time.sleep(0.01)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "wengert", "study", str(script), "--list"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "interrupted by Ctrl-C" in out and "mul(" in out


class Terminal:
    """A command in a pseudo-terminal, as a user has it."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="120", LINES="40")
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # whatever the tests were started by
            os.execv(sys.executable, [sys.executable, "-m", "wengert", *arguments])
        self.text = ""

    def until(self, wanted: str, timeout: float = 60) -> str:
        """What came until `wanted` did."""
        end = time.monotonic() + timeout
        while wanted not in self.text:
            assert time.monotonic() < end, f"waited for {wanted!r}, and got:\n{self.text}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    break
                self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode(errors="replace"))
        before, _, self.text = self.text.partition(wanted)
        return before

    def do(self, text: str) -> str:
        os.write(self.fd, text.encode() + b"\n")
        return self.until("(study) ")

    def interrupt(self, wanted: str) -> str:
        """Ctrl-C, as often as it takes: one between the prompt and readline's own wait is lost."""
        for _ in range(10):
            os.write(self.fd, b"\x03")
            with contextlib.suppress(AssertionError):
                return self.until(wanted, 5)
        return self.until(wanted, 0)

    def end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_stepper_in_a_terminal() -> None:
    pytest.importorskip("rich")
    t = Terminal("study", "--model", "mlp", "--layers", "4")
    assert "forward" in t.until("(study) ")
    assert "1/" in t.do("") and "2/" in t.do("n")
    assert "1/" in t.do("b") and "before line 1" in t.do("b")
    assert "relu(" in t.do("l relu1")
    shown = t.do("p relu1")
    assert "its gradient is the sum of 1" in shown
    assert "lines from here on see it" in t.do("set relu1[0,0] = 3")
    assert "largest change" in t.do("d")
    assert "taken back" in t.do("undo") and "nothing has been edited" in t.do("d")
    assert "no NaN and no infinity" in t.do("nan")
    assert "/" in t.do("max") and "breaks: relu" in t.do("br relu")
    t.do("g 0")
    assert "relu(" in t.do("c")
    assert "no line 9999" in t.do("g 9999") and "no command" in t.do("what")
    assert "not a line number" in t.do("g x") and "not a number" in t.do("set relu1 = x")
    assert "all agree" in t.do("check")
    assert "cross_entropy" in t.do("/cross_entropy") and "no line has" in t.do("/xyzzy")
    assert "forward one line" in t.do("h") and "sums per layer" in t.do("costs")
    one = t.do("h set")
    assert "edit a value" in one and "forward one line" not in one
    assert "no command 'nothing'" in t.do("h nothing") and "no command '!'" in t.do("! ls")
    assert "forward one line" in t.do("?") and "forward one line" in t.do("help")
    t.do("g 2")
    assert "2/" in t.do("\x1b[A")  # Up: the line before once more
    assert "relu1 is made by line" in t.do("p relu\t")  # completed
    assert "taken back" in t.do("und\t") and "edit a value" in t.do("? se\t")
    t.interrupt("q quits")
    os.write(t.fd, b"q\n")
    assert t.end() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_drill_in_a_terminal() -> None:
    line = drill("sign").lines[0]
    t = Terminal("study", "--drill", "sign")
    t.until("(drill) ")
    for text, answer in (
        ("1", "does what it says"), ("hint", "Run check"), ("check", "WRONG"), ("what", "a line"),
        ("list", "binary_cross_entropy"),
    ):  # fmt: skip
        os.write(t.fd, text.encode() + b"\n")
        assert answer in t.until("(drill) ")
    os.write(t.fd, f"{line}\n".encode())
    t.until("Right")
    assert t.end() == 0
    listed = command("--drill").stdout
    assert all(name in listed for name in DRILLS)
    assert "no drill" in command("--drill", "nonsense").stderr
