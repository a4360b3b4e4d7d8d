"""The page of wengert.study in a browser: stepping, clicking, searching, editing, without an error.

Needs Chromium with its driver (Debian: chromium, chromium-driver) and Selenium.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim, parallel
from wengert.study import Program, StudyError
from wengert.study.page import capture, text

selenium = pytest.importorskip("selenium", reason="Selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
browsers = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium or its driver is not installed"
)


def program(seed: int = 0) -> Program:
    """10-5-1, with a second consumer of h."""
    rng = np.random.default_rng(seed)
    w1, w2 = (
        wg.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((10, 5), (5, 1))
    )
    b1 = wg.tensor(np.zeros(5), requires_grad=True)
    optimizer = optim.SGD([w1, b1, w2], lr=0.1)

    def step(x: wg.Tensor, y: wg.Tensor) -> None:
        h = wg.sigmoid(x @ w1 + b1)
        z = h @ w2 + h.mean(1, keepdims=True)
        loss = wg.binary_cross_entropy_with_logits(z, y)
        loss.backward()
        optimizer.step()

    x, y = rng.standard_normal((6, 10)), (rng.random((6, 1)) > 0.5).astype(float)
    return wg.trace(step)(wg.tensor(x), wg.tensor(y))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    options = Options()
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1300,900",
    ):  # fmt: skip
        options.add_argument(flag)
    options.binary_location = CHROMIUM or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    errors = driver.get_log("browser")
    driver.quit()
    assert errors == []


def find(browser: Any, selector: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, selector)


def press(browser: Any, *keys: str) -> None:
    find(browser, "body").send_keys(*keys)


def at(browser: Any) -> int:
    return int(browser.execute_script("return at"))


@browsers
def test_step_click_search_and_edit(browser: Any, tmp_path: Path) -> None:
    p = program()
    browser.get(p.to_html(tmp_path / "p.html", title="10-5-1 <net>").as_uri())
    assert browser.title == "10-5-1 <net>"
    lines = browser.find_elements(By.CSS_SELECTOR, ".line")
    assert len(lines) == len(p)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#arcs path")) > 5

    for n in range(1, len(p) + 1):  # to the end and back
        press(browser, Keys.ARROW_RIGHT)
        assert at(browser) == n
        shown = find(browser, "#detail h2").text
        assert shown.startswith(str(n))
    press(browser, Keys.ARROW_RIGHT)
    assert at(browser) == len(p)
    press(browser, Keys.HOME)
    assert at(browser) == 0 and "Before line 1" in find(browser, "#detail").text
    press(browser, Keys.END, Keys.ARROW_LEFT)
    assert at(browser) == len(p) - 1

    sigmoid = next(line for line in p.lines if line.op == "sigmoid")
    find(browser, f".line[data-n='{sigmoid.number}']").click()
    detail = find(browser, "#detail").text
    assert at(browser) == sigmoid.number
    assert "1 / (1 + exp(-add1))" in detail and "dadd1 = dh * h * (1 - h)" in detail
    assert "test_study_page.py" in detail and "bytes until line" in detail
    assert len(browser.find_elements(By.CSS_SELECTOR, "#detail canvas")) >= 3

    press(browser, "/")
    find(browser, "#search").send_keys("sigmoid_vjp")
    shown = [e for e in lines if e.is_displayed()]
    assert len(shown) == 1 and "found" in find(browser, "#where").text
    find(browser, "#search").send_keys(Keys.ENTER)
    assert p.line(at(browser)).op == "sigmoid_vjp"
    find(browser, "#search").send_keys(Keys.ESCAPE)
    assert all(e.is_displayed() for e in lines)

    theme = browser.execute_script("return document.documentElement.dataset.theme")
    find(browser, "#theme").click()
    assert browser.execute_script("return document.documentElement.dataset.theme") != theme

    # An edit: the page runs the list itself, and comes to the numbers that the stepper comes to.
    find(browser, f".line[data-n='{sigmoid.number}']").click()
    canvas = find(browser, "#detail canvas.can")
    canvas.send_keys(Keys.ENTER)  # its first cell
    field = find(browser, ".tip input")
    stepper = p.stepper()
    stepper.to(sigmoid.number)
    assert float(field.get_attribute("value")) == pytest.approx(stepper.array("h")[0, 0], 1e-3)
    field.send_keys("nonsense", Keys.ENTER)
    assert "a number, please" in find(browser, ".tip").text
    field.clear()
    field.send_keys("0.9", Keys.ENTER)
    stepper.edit("h", 0.9, at=(0, 0))
    rows = {
        cells[0].text: [float(c.text) for c in cells[1:]]
        for row in browser.find_elements(By.CSS_SELECTOR, "#edits tr")[1:]
        if (cells := row.find_elements(By.TAG_NAME, "td"))
    }
    differences = stepper.differences()
    assert set(rows) == {f"d{name}" for name in differences}
    for name, (before, after) in differences.items():
        expected = [np.abs(after - before).max(), np.linalg.norm(before), np.linalg.norm(after)]
        assert rows[f"d{name}"] == pytest.approx(expected, rel=2e-3)
    find(browser, "#undo").click()
    assert find(browser, "#edits").text == ""


@browsers
def test_its_own_run_agrees_with_the_trace(browser: Any, tmp_path: Path) -> None:
    """Every line of the ops that the page knows, to rounding."""
    x = wg.tensor(np.random.default_rng(2).standard_normal((4, 6)), requires_grad=True)
    labels = wg.tensor([0, 3, 5, 1])

    def step() -> None:
        y = wg.tanh(x) * wg.exp(x * 0.1) + wg.log(x.square() + 1.0) - wg.sqrt(wg.abs(x) + 1.0)
        y = y + wg.silu(x) / 2.0 + wg.softplus(-x) + wg.relu(x) + wg.sin(x) - wg.cos(x)
        y = y + wg.softmax(y, 1) + wg.log_softmax(x, 1) + wg.where(x > 0.0, x, y)
        y = y + wg.elu(x) + wg.gelu(x) + wg.gelu(x, "tanh") + wg.leaky_relu(x, 0.1) + wg.erf(x)
        y = y + x.clamp(-0.5, 0.5) + x.clamp(min=0.1) + wg.expm1(x) + wg.log1p(x * x) + wg.sign(x)
        y = y + wg.rsqrt(x * x + 1.0) + (x * 2.0).round() + x.floor() * (x * 3.0).ceil()
        y = y + wg.exp2(x) + wg.log2(x * x + 1.0) + wg.log10(x * x + 1.0) + wg.tan(x) + wg.mish(x)
        z = wg.tanh(x)
        y = y + wg.asin(z) + wg.acos(z) + wg.atan(x) + wg.sinh(x) + wg.cosh(x) + wg.asinh(x)
        y = (
            y
            + wg.acosh(x * x + 1.5)
            + wg.atanh(z)
            + wg.trunc(x * 3.0)
            + wg.hardtanh(x)
            + wg.selu(x)
        )
        y = y + wg.atan2(x, y) + wg.hypot(x, y) + wg.logaddexp(x, z) + wg.xlogy(x, x * x + 0.1)
        y = y + wg.fmod(x, 0.7) + wg.copysign(x, z) + wg.reciprocal(x * x + 1.0) + wg.selu(x)
        y = y + ((labels << 2) >> wg.tensor([0, 1, -1, 70])).sum()
        y = y + x // 0.7 + x % -0.4 + (x * x + 0.1) ** x + wg.minimum(x, y) / (x - 9.0)
        y = y + ((x > 0.0) & (y < 0.0)).to("float64") + ((x > 0.0) ^ (y <= 0.5)).to("float64")
        y = wg.maximum(y, x) @ x.T @ x
        loss = wg.cross_entropy(y, labels) + wg.logsumexp(y, 1).mean() + y.max(1).sum()
        loss.backward()

    p = wg.trace(step)()
    browser.get(p.to_html(tmp_path / "p.html").as_uri())
    assert browser.execute_script("return D.run !== null")
    found = browser.execute_script(
        "const r = run([]), o = {}; for (const k in r.kept) o[k] = Array.from(r.kept[k]); return o"
    )
    run = p.run()
    compared = 0
    for line in p.lines:
        run.forward()
        key = f"{line.number}:{line.output}"
        if key in found:
            np.testing.assert_allclose(
                np.array(found[key], float),
                run.array(line.output).ravel().astype(float),
                rtol=1e-9, atol=1e-12, err_msg=p.left(line),
            )  # fmt: skip
            compared += 1
    assert compared == len([line for line in p.lines if line.phase != "update"])


@browsers
def test_over_the_steps_of_a_training(browser: Any, tmp_path: Path) -> None:
    wg.manual_seed(0)
    model = nn.MLP([4, 8, 3], activation="sigmoid")
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    x, y = wg.randn((16, 4)), wg.randint(0, 3, (16,))

    def step() -> None:
        optimizer.zero_grad()
        loss = wg.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()

    step()
    kept = [wg.trace(step)() for _ in range(4)]
    browser.get(kept[0].to_html(tmp_path / "p.html", steps=kept[1:]).as_uri())
    assert find(browser, "#stepat").text == "1 / 4"
    losses = []
    number = next(line.number for line in kept[0].lines if line.op == "mean")
    find(browser, f".line[data-n='{number}']").click()
    for n in range(4):
        browser.execute_script(
            "const e = document.getElementById('step'); e.value = arguments[0];"
            "e.dispatchEvent(new Event('input'))", n,
        )  # fmt: skip
        losses.append(find(browser, "#detail .value p").text)
    assert len(set(losses)) == 4
    find(browser, "#chart canvas").click()
    other = program()
    with pytest.raises(StudyError, match="different ops"):
        kept[0].to_html(tmp_path / "q.html", steps=[other])


@browsers
def test_messages_between_machines(browser: Any, tmp_path: Path) -> None:
    networks = [nn.Linear(3, 2, dtype="float64") for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())

    def rank(comm: parallel.Communicator) -> Path:
        model = parallel.DataParallel(networks[comm.rank], comm=comm)
        x, y = wg.ones((4, 3), "float64"), wg.zeros((4, 2), "float64")
        p = wg.trace(lambda: model.backward(wg.mse_loss, x, y))()
        return p.to_html(tmp_path / f"{comm.rank}.html")

    browser.get(parallel.Threads.run(2, rank)[0].as_uri())
    told = find(browser, "#sent").text
    assert "% of their time hidden behind computation" in told
    assert "64 bytes" in told and "the step waited" in told
    find(browser, "#sent button").click()
    assert "allreduce_start" in find(browser, "#detail").text
    assert "64 bytes in " in find(browser, "#detail").text


@browsers
def test_on_a_phone(browser: Any, tmp_path: Path) -> None:
    browser.set_window_size(500, 900)
    p = program()
    browser.get(p.to_html(tmp_path / "p.html").as_uri())
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= browser.execute_script("return innerWidth")
    for n in (3, len(p)):
        browser.execute_script("go(arguments[0])", n)
        line = find(browser, f".line[data-n='{n}']")
        panel = find(browser, "aside")
        assert line.rect["y"] + line.rect["height"] <= browser.execute_script(
            "return scrollY + arguments[0].getBoundingClientRect().top", panel
        )
    find(browser, "#sheet").click()
    assert find(browser, "aside").size["height"] < 120


@browsers
def test_a_list_of_5000_lines(browser: Any, tmp_path: Path) -> None:
    w = wg.tensor(np.full((16, 16), 0.05), requires_grad=True)

    def step(x: wg.Tensor) -> None:
        for _ in range(640):
            x = wg.tanh(x @ w + x)
        x.mean().backward()

    p = wg.trace(step)(wg.tensor(np.random.default_rng(0).standard_normal((16, 16))))
    assert len(p) > 5000
    path = p.to_html(tmp_path / "p.html")
    assert path.stat().st_size < 12_000_000
    browser.get(path.as_uri())
    assert len(browser.find_elements(By.CSS_SELECTOR, ".line")) == len(p)
    press(browser, Keys.END)
    assert at(browser) == len(p)
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert at(browser) == len(p) - 2


# ---- without a browser


def test_captures() -> None:
    c = capture(np.array([[1.0, np.nan], [np.inf, -1.0]]), 8)
    assert c[:2] == [-1.0, 1.0] and c[5] == 2 and c[7:10] == [2, 2, 0]
    c = capture(np.arange(10000.0).reshape(100, 100), 8)
    assert c[7:10] == [8, 8, 1] and c[0] == 0.0 and c[1] == 9999.0
    assert capture(np.zeros((0, 3)), 8)[7] == 0
    capture(np.array([-1.7e308, 1.7e308]), 8)  # no overflow


def test_the_page_needs_no_network_and_holds_bad_numbers(tmp_path: Path) -> None:
    x = wg.tensor([1.0, 0.0], requires_grad=True)

    def step() -> None:
        wg.log(x).sum().backward()

    text = wg.trace(step)().to_html(tmp_path / "p.html", title="</script>").read_text()
    assert "http://" not in text and "https://" not in text
    assert text.count("</script>") == 2
    with pytest.raises(StudyError, match="list is empty"):
        wg.trace(lambda: None)().to_html(tmp_path / "q.html")


HOST = """<!doctype html><title>host</title><body style="background:#222"><div id="out"></div>
<script>
const state = STATE, said = {}, model = {
  get: name => state[name],
  set: (name, value) => {
    if (state[name] !== value) { state[name] = value; said["change:" + name]?.(); }
  },
  save_changes: () => { state.saved = (state.saved || 0) + 1; },
  on: (name, call) => { said[name] = call; }, off: name => { delete said[name]; },
};
WIDGET
const stop = render({model, el: document.getElementById("out")});
</script>"""


@browsers
def test_widget_and_page_stand_at_one_line(browser: Any, tmp_path: Path) -> None:
    """widget.js between a model, as a notebook has one, and the page in its frame."""
    p = program()
    state = {"page": text([p]), "position": 4, "height": 700, "edits": []}
    source = (Path(wg.study.__file__).parent / "widget.js").read_text()
    parts = {"STATE": json.dumps(state).replace("<", "\\u003c")}
    parts["WIDGET"] = source.replace("export default {render};", "")
    host = tmp_path / "host.html"
    host.write_text(re.sub("STATE|WIDGET", lambda m: parts[m[0]], HOST))
    browser.get(host.as_uri())

    def state_of(name: str) -> Any:
        return browser.execute_script(f"return state.{name}")

    def where() -> str:
        browser.switch_to.frame(0)
        found: str = find(browser, "#where").text
        browser.switch_to.default_content()
        return found

    wait = WebDriverWait(browser, 10)
    wait.until(lambda _: where() == f"4 / {len(p)}")  # the page goes where the model stands
    browser.switch_to.frame(0)
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    find(browser, "#next").click()
    find(browser, "#next").click()
    browser.switch_to.default_content()
    wait.until(lambda _: state_of("position") == 6)
    assert where() == f"6 / {len(p)}"
    browser.execute_script("model.set('position', 2)")
    wait.until(lambda _: where() == f"2 / {len(p)}")

    h = p.value("h")
    browser.switch_to.frame(0)
    find(browser, f".line[data-n='{h.line}']").click()
    find(browser, "#detail canvas.can").send_keys(Keys.ENTER)
    field = find(browser, ".tip input")
    field.clear()
    field.send_keys("0.9", Keys.ENTER)
    browser.switch_to.default_content()
    wait.until(lambda _: state_of("edits.length") == 1)
    assert state_of("edits")[0] == [h.line, h.number, 0, 0.9]
    assert state_of("position") == h.line
    browser.execute_script("stop(); model.set('position', 1)")
    assert where() == f"{h.line} / {len(p)}"
