"""What study costs: tracing a step against running it, and the page of three steps.

    python benchmarks/study.py [--pages DIR]

Each row: lines of the list; milliseconds of the step, untraced and traced (the best of some, in
turns); their ratio; seconds and rows of check(); bytes of the page and seconds to write it. With
Selenium and Chromium installed, also the seconds until the browser has loaded and drawn it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import wengert
from wengert import nn, optim


def mlp(sizes: list[int], batch: int, activation: str) -> Callable[[], None]:
    model = nn.MLP(sizes, activation)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x = wengert.randn((batch, sizes[0]))
    y = wengert.randint(0, max(sizes[-1], 2), (batch,))
    binary = sizes[-1] == 1

    def step() -> None:
        optimizer.zero_grad()
        z = model(x)
        if binary:
            loss = wengert.binary_cross_entropy_with_logits(z, y.float().reshape((batch, 1)))
        else:
            loss = wengert.cross_entropy(z, y)
        loss.backward()
        optimizer.step()

    return step


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        self.weight = nn.Parameter(wengert.ones(width))
        self.bias = nn.Parameter(wengert.zeros(width))

    def forward(self, x: wengert.Tensor) -> wengert.Tensor:
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return centred * wengert.rsqrt(variance + 1e-5) * self.weight + self.bias


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        self.heads, self.width = heads, width
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: wengert.Tensor) -> wengert.Tensor:
        n, length, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape((n, length, 3, self.heads, width // self.heads))
        q, k, v = (parts[:, :, i].permute((0, 2, 1, 3)) for i in range(3))
        scores = q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5
        mixed = (wengert.softmax(scores, -1) @ v).permute((0, 2, 1, 3)).reshape(x.shape)
        x = x + self.out(mixed)
        return x + self.down(wengert.gelu(self.up(self.norm2(x))))


def transformer(layers: int = 6, width: int = 64, heads: int = 4) -> Callable[[], None]:
    """A small encoder, written with the ops that are there, classifying sequences of vectors."""
    blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)), Norm(width))
    head = nn.Linear(width, 10)
    optimizer = optim.Adam([*blocks.parameters(), *head.parameters()], lr=1e-3)
    x, y = wengert.randn((4, 32, width)), wengert.randint(0, 10, (4,))

    def step() -> None:
        optimizer.zero_grad()
        loss = wengert.cross_entropy(head(blocks(x).mean(1)), y)
        loss.backward()
        optimizer.step()

    return step


def load_seconds(path: Path) -> str:
    """Until the page has loaded and stepped once, in headless Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return "-"
    if not (chromium and driver):
        return "-"
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync",
                 f"--user-data-dir={tempfile.mkdtemp()}"):  # fmt: skip
        options.add_argument(flag)
    options.binary_location = chromium
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        times = []
        for _ in range(3):
            browser.get("about:blank")
            start = time.perf_counter()
            browser.get(path.resolve().as_uri())
            browser.execute_script("go(1)")
            times.append(time.perf_counter() - start)
        return f"{min(times):.2f}"
    finally:
        browser.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", type=Path, default=None, help="keep the pages there")
    arguments = parser.parse_args()
    pages = arguments.pages or Path(tempfile.mkdtemp())
    pages.mkdir(parents=True, exist_ok=True)
    wengert.manual_seed(0)
    print(f"{'step':22}{'lines':>6}{'ms':>9}{'traced':>9}{'ratio':>7}{'check s':>9}{'rows':>6}"
          f"{'bad':>5}{'page bytes':>12}{'write s':>9}{'load s':>8}")  # fmt: skip
    for name, step in (
        ("10-5-1, 100 samples", mlp([10, 5, 1], 100, "sigmoid")),
        ("784-512-512-10, 64", mlp([784, 512, 512, 10], 64, "relu")),
        ("6-layer transformer", transformer()),
    ):
        step()
        plain, traced = [], []
        for _ in range(15):
            start = time.perf_counter()
            step()
            middle = time.perf_counter()
            program = wengert.trace(step)()
            traced.append(time.perf_counter() - middle)
            plain.append(middle - start)
        a, b = min(plain) * 1e3, min(traced) * 1e3
        start = time.perf_counter()
        checks = program.check()
        checked = time.perf_counter() - start
        start = time.perf_counter()
        path = program.to_html(pages / f"{name.split()[0].strip(',')}.html", title=name)
        written = time.perf_counter() - start
        print(f"{name:22}{len(program):6}{a:9.3f}{b:9.3f}{b / a:7.2f}{checked:9.2f}"
              f"{len(checks.rows):6}{len(checks.bad):5}{path.stat().st_size:12,}{written:9.2f}"
              f"{load_seconds(path):>8}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
