"""What the README shows is what happens: its code is run and its output compared."""

import contextlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wengert
from wengert.models.bert import BertConfig, BertModel

README = Path(__file__).parent.parent / "README.md"


pytestmark = pytest.mark.skipif(not README.exists(), reason="the tests run without the README")


def test_code_gives_the_output_shown() -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), flags=re.S)
    assert [kind for kind, _ in blocks] == ["python", "text"] * (len(blocks) // 2)
    names: dict[str, object] = {}
    for (_, code), (_, shown) in zip(blocks[::2], blocks[1::2], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), names)
        assert printed.getvalue() == shown


def test_commands_are_single_lines_that_set_up_themselves() -> None:
    lines = [line.strip() for line in README.read_text().splitlines()]
    commands = [line for line in lines if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("wengert train")
    assert ".venv/bin/pytest" in commands[1]


def idx(array: np.ndarray) -> bytes:
    """A file of bytes as MNIST's are."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def test_the_command_line_runs_as_written(tmp_path: Path) -> None:
    """In a folder with no more in it than what the commands name: images, an encoder, a script."""
    rng = np.random.default_rng(0)
    (tmp_path / "fashion-mnist").mkdir()
    for name, n in (("train", 60), ("t10k", 20)):
        files = {"images-idx3": rng.integers(0, 256, (n, 4, 4)), "labels-idx1": np.arange(n) % 10}
        for kind, array in files.items():
            (tmp_path / "fashion-mnist" / f"{name}-{kind}-ubyte").write_bytes(idx(array))
    (tmp_path / "DIRECTORY").mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "another", "sentence"]
    (tmp_path / "DIRECTORY" / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=16,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "DIRECTORY")
    (tmp_path / "script.py").write_text(
        "import wengert as wg\n"
        "x = wg.tensor([1.0, 2.0], requires_grad=True)\n(x * x).sum().backward()\n"
    )
    image = pytest.importorskip("PIL.Image")
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
            image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{i}.jpg")
    section = README.read_text().split("## The command line\n")[1].split("\n## ")[0]
    commands = re.findall(r"^    (wengert .*)$", section, flags=re.M)
    assert {shlex.split(line)[1] for line in commands} == {
        "train", "predict", "embed", "study", "info"
    }  # fmt: skip
    needs = {"embed": "tokenizers", "study": "rich"}
    printed = {}
    for line in commands:
        _, *arguments = shlex.split(line)
        if importlib.util.find_spec(needs.get(arguments[0], "wengert")) is None:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "wengert", *arguments],
            cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stderr}"
        printed[line] = done.stdout + done.stderr
    # The second command goes on where the first one ended, and the third tells the same of it.
    assert "trained 50 epochs" in printed[commands[1]]
    found = re.search(r"test accuracy ([0-9.]+) %", printed[commands[1]])
    assert found and f"accuracy {found[1]} %" in printed[commands[2]]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "digits",
        "fashion-mnist",
        "photos",
    ]
    assert wengert.__version__ in printed["wengert info"]
