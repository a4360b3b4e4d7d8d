"""The examples run as they stand, and come out as their texts say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data import write_idx_directory

EXAMPLES = Path(__file__).parent.parent / "examples"
FASHION = Path("/usr/share/datasets/fashion-mnist")


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_seed_mlp_agrees_with_numpy() -> None:
    """The founding network, whole: nine runs of 1000 epochs, weights equal to 1e-12."""
    done = run("seed_mlp.py")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(.{18})(.{15})\s*([0-9.]+)\s+([0-9.]+)\s+(\S+)$", done.stdout, flags=re.M)
    assert len(rows) == 9
    for method, loss, first, last, apart in rows:
        assert float(last) < float(first), (method, loss)
        assert float(apart) <= 1e-12, (method, loss)
    assert "agree" in done.stdout


def test_seed_mlp_hand_written_gradients() -> None:
    """The NumPy twin itself is checked against finite differences."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import seed_mlp
    finally:
        sys.path.remove(str(EXAMPLES))
    x, y, weights = seed_mlp.make_problem()

    def loss_value(loss: str) -> float:
        w1, b1, w2, b2 = weights
        z = seed_mlp.sigmoid(x @ w1 + b1) @ w2 + b2
        if loss == "cross-entropy":
            return float((np.logaddexp(0, z) - y * z).mean())
        return float(((seed_mlp.sigmoid(z) - y) ** 2).mean()) * (0.5 if loss == "half mse" else 1.0)

    for loss in seed_mlp.LOSSES:
        for weight, gradient in zip(weights, seed_mlp.gradients(weights, x, y, loss), strict=True):
            for place in np.ndindex(weight.shape):
                kept = weight[place]
                weight[place] = kept + 1e-5
                above = loss_value(loss)
                weight[place] = kept - 1e-5
                below = loss_value(loss)
                weight[place] = kept
                assert (above - below) / 2e-5 == pytest.approx(gradient[place], abs=1e-9)


def test_fashion_mnist_on_synthetic_images(tmp_path: Path) -> None:
    write_idx_directory(tmp_path, train=600, test=100, packed=True)
    done = run("fashion_mnist.py", tmp_path, "--epochs", "3", "--subset", "500")
    assert done.returncode == 0, done.stderr
    accuracies = [float(a) for a in re.findall(r"test accuracy ([0-9.]+) %", done.stdout)]
    assert len(accuracies) == 3 and accuracies[-1] > 95


def test_fashion_convnet_on_synthetic_images(tmp_path: Path) -> None:
    for needed in ("rich", "matplotlib"):
        pytest.importorskip(needed)
    write_idx_directory(tmp_path, train=600, test=100)
    done = run("fashion_convnet.py", tmp_path, "--epochs", "4", "--width", "4", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [float(a) for a in re.findall(r"loss ([0-9.]+)", done.stdout)]
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert (tmp_path / "mistakes.png").is_file()
    done = run("fashion_convnet.py", tmp_path / "nowhere")
    assert done.returncode == 1 and "apt install dataset-fashion-mnist" in done.stderr


def test_photo_classes_of_random_weights(tmp_path: Path) -> None:
    for needed in ("rich", "matplotlib", "PIL"):
        pytest.importorskip(needed)
    import wengert
    from wengert.models.efficientnet_lite import EfficientNetLite

    weights, photo = tmp_path / "lite.safetensors", tmp_path / "photo.png"
    wengert.manual_seed(0)
    wengert.save(weights, EfficientNetLite(0).state_dict())
    from PIL import Image

    Image.fromarray(np.arange(300 * 240 * 3, dtype=np.uint8).reshape(300, 240, 3)).save(photo)
    options = ["--weights", weights, "--top", "2", "--explain", "--out", tmp_path]
    done = run("photo_classes.py", photo, *options)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^photo\.png: \d+ % .+, \d+ % ", done.stdout, flags=re.M)
    assert (tmp_path / "classes.png").is_file() and (tmp_path / "why.png").is_file()
    for arguments, says in [
        ((weights, "--weights", weights), "cannot be read as an image"),
        ((photo, "--weights", photo), "not a safetensors file"),
    ]:
        done = run("photo_classes.py", *arguments)
        assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def read_page() -> Any:
    for needed in ("rich", "PIL"):
        pytest.importorskip(needed)
    sys.path.insert(0, str(EXAMPLES))
    try:
        import read_page
    finally:
        sys.path.remove(str(EXAMPLES))
    return read_page


def test_read_page_patches_are_those_of_a_flood(read_page: Any) -> None:
    random = np.random.default_rng(0)
    for share in (0.2, 0.4, 0.5):
        mask = random.random((23, 31)) < share
        found = {tuple(sorted(map(tuple, p.astype(int)))) for p in read_page.patches(mask)}
        left, flooded = mask.copy(), set()
        for y, x in np.argwhere(mask):
            todo, patch = [(y, x)] if left[y, x] else [], set()
            left[y, x] = False
            while todo:
                b, a = todo.pop()
                patch.add((a, b))
                near = np.ix_(
                    range(max(b - 1, 0), min(b + 2, 23)), range(max(a - 1, 0), min(a + 2, 31))
                )
                todo += [(near[0][i, 0], near[1][0, j]) for i, j in np.argwhere(left[near])]
                left[near] = False
            if patch:  # a run's ends, twice where it is one pixel
                ends = [p for p in patch for d in (-1, 1) if (p[0] + d, p[1]) not in patch]
                flooded.add(tuple(sorted(ends)))
        assert found == flooded


def test_read_page_rectangles(read_page: Any) -> None:
    """The smallest one around the corners of a rectangle and what lies in it, at any angle."""
    random = np.random.default_rng(0)
    for angle in np.linspace(-0.7, 0.7, 9):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        flat = np.array([[0, 0], [40, 0], [40, 9], [0, 9]], float)
        inner = random.random((30, 2)) * [40, 9]
        found = read_page.rectangle(np.vstack([inner, flat]) @ turn + 50)
        np.testing.assert_allclose(found, flat @ turn + 50, atol=1e-9)
        assert read_page.lengths(found) == pytest.approx((40, 9))
    np.testing.assert_array_equal(read_page.rectangle(np.array([[3.0, 4.0]])), [[3, 4]] * 4)
    image = random.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    corners = np.array([[5, 7], [65, 7], [65, 27], [5, 27]], float)
    np.testing.assert_array_equal(read_page.straightened(image, corners), image[7:27, 5:65])
    tall = np.array([[10, 5], [30, 5], [30, 55], [10, 55]], float)
    np.testing.assert_array_equal(read_page.straightened(image, tall), np.rot90(image[5:55, 10:30]))


def test_read_page(tmp_path: Path, read_page: Any) -> None:
    """A drawn page, and the same turned and shaded, say what RapidOCR reads with these weights."""
    pytest.importorskip("onnx")
    if read_page.installed() is None:
        pytest.skip(f"pip install --no-deps {read_page.PACKAGE}==1.4.4")
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("L", (420, 400), 255)
    face, texts = ImageFont.load_default(30), ["A Wengert list has", "each operation once."]
    for i, text in enumerate(texts):
        ImageDraw.Draw(page).text((30, 40 + 70 * i), text, 0, face)
    page.save(tmp_path / "page.png")
    photo = np.asarray(page.rotate(184, expand=True, fillcolor=255), float)
    photo *= np.linspace(1, 0.6, photo.shape[1])
    Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "photo.jpg")
    done = run("read_page.py", tmp_path / "page.png", tmp_path / "photo.jpg", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    read = re.findall(r"^ [01]\.\d+  (.*)$", done.stdout, flags=re.M)
    # Two lines the right way up, and two upside down: the second network turns each, not the page.
    assert [r.replace(" ", "") for r in read] == [
        t.replace(" ", "") for t in [*texts, *texts[::-1]]
    ]
    assert (tmp_path / "read-page.png").is_file() and (tmp_path / "read-photo.png").is_file()
    if any(Path(font).is_file() for font in read_page.FONTS):
        done = run("read_page.py", "--lines", "2", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        assert "反向传播算法的历史" in done.stdout and "\n0 characters of 52" in done.stdout
    done = run("read_page.py", EXAMPLES / "README.md")
    assert done.returncode == 1 and "cannot be read as an image" in done.stderr
    assert "Traceback" not in done.stderr


def test_read_page_says_what_is_missing(tmp_path: Path, read_page: Any) -> None:
    done = run("read_page.py", tmp_path / "no.png", "--weights", tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "pip install" in done.stderr or "there is no file" in done.stderr


def test_write_plays_learns_a_made_language(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    random = np.random.default_rng(0)
    files = [tmp_path / f"text{i}.txt" for i in range(8)]
    for file in files:
        names = random.choice(["ANNA.", "BERT.", "CLEO."], 400)
        file.write_text("".join(f"{n}\n{n.lower()[:-1] * 3}\n\n" for n in names))
    model = tmp_path / "model.safetensors"
    sizes = ["--width", "32", "--layers", "1", "--heads", "2", "--context", "32", "--batch", "16"]
    done = run("write_plays.py", *files, *sizes, "--steps", "300", "--out", model)
    assert done.returncode == 0, done.stderr
    needs = re.search(r"need ([0-9.]+) bits a letter, xz ([0-9.]+)", done.stdout)
    found = re.search(r"the model needs ([0-9.]+) bits a letter", done.stdout)
    assert needs and found, done.stdout
    # Of 19 letters three names' choice is news: log2(3) / 19 bits a letter.
    assert 0.07 < float(found[1]) < 0.25 < float(needs[1]) and float(needs[2]) > 0.07
    options = ["--prompt", "CLEO.", "--temperature", "0.5", "--length", "60"]
    done = run("write_plays.py", "--read", model, *options)
    assert done.returncode == 0, done.stderr
    assert "CLEO.\ncleocleocleo\n\n" in done.stdout
    for arguments, says in [
        ((files[0],), "1 texts, with"),
        ((tmp_path / "none.txt",), "cannot be read"),
        ((), "give files to learn from"),
        (("--read", model, "--prompt", "!"), "no letter of '!'"),
    ]:
        done = run("write_plays.py", *arguments)
        assert done.returncode and says in done.stderr and "Traceback" not in done.stderr


def test_draw_clothes_on_synthetic_images(tmp_path: Path) -> None:
    for needed in ("rich", "matplotlib"):
        pytest.importorskip(needed)
    write_idx_directory(tmp_path, train=600, test=200)
    few = ["--steps", "200", "--width", "8", "--batch", "32", "--looks", "4", "--count", "100"]
    done = run("draw_clothes.py", tmp_path, *few, "--epochs", "12", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [float(a) for a in re.findall(r"loss ([0-9.]+)", done.stdout)]
    assert len(losses) == 5 and losses[-1] < 0.8 * losses[0]
    rows = re.findall(r"^(.{20}) taken .* ([0-9.]+) %\s+distance\s+([0-9.]+)$", done.stdout, re.M)
    shares = {name.strip(): float(share) for name, share, _ in rows}
    assert list(shares) == ["drawings", "training images", "test images", "noise of each class"]
    assert shares["test images"] > 80 and (tmp_path / "clothes.png").is_file()
    done = run("draw_clothes.py", tmp_path / "nowhere")
    assert done.returncode == 1 and "apt install dataset-fashion-mnist" in done.stderr


def test_fashion_mnist_says_where_the_images_come_from(tmp_path: Path) -> None:
    done = run("fashion_mnist.py", tmp_path / "nowhere")
    assert done.returncode == 1 and "apt install dataset-fashion-mnist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not installed")
def test_fashion_mnist_reaches_88_percent() -> None:
    done = run("fashion_mnist.py", FASHION)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"test accuracy ([0-9.]+) %", done.stdout)[-1]) >= 88.0


@pytest.mark.parametrize("name", sorted(p.name for p in (EXAMPLES / "study").glob("*.py")))
def test_study_walks(name: str, tmp_path: Path) -> None:
    """Each walk asserts what it tells."""
    arguments: list[str | Path] = []
    if name == "attribution.py":
        pytest.importorskip("matplotlib")
        arguments = ["--epochs", "3", "--samples", "2", "--out", tmp_path]
    done = run(f"study/{name}", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    if name == "attribution.py":
        assert (tmp_path / "attributions.png").is_file() and (tmp_path / "layers.png").is_file()
        assert "largest gap" in done.stdout and "calib. error" in done.stdout


def write_sayings(folder: Path) -> list[str]:
    """Two files of made sayings that a few words tell apart, and a small BERT that knows them."""
    import wengert as wg
    from wengert.models.bert import BertConfig, BertModel

    random = np.random.default_rng(0)
    words = {"sea": ["wave", "ship", "salt", "tide"], "sky": ["star", "moon", "cloud", "wind"]}
    common = ["the", "a", "of", "and"]
    for name, own in words.items():
        texts = {" ".join(random.choice(own + common, random.integers(4, 40))) for _ in range(150)}
        (folder / name).write_text("\n%\n".join(sorted(texts)) + "\n%\n")
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *common,
        *words["sea"],
        *words["sky"],
    ]
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("\n".join(vocabulary))
    wg.manual_seed(0)
    BertModel(
        BertConfig(len(vocabulary), 16, 1, 2, 32, max_position_embeddings=64)
    ).save_pretrained(folder / "bert")
    return list(words)


def test_finetune_bert_on_made_sayings(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    names = write_sayings(tmp_path)
    options = ["--data", tmp_path, "--model", tmp_path / "bert", "--out", tmp_path / "out"]
    done = run("finetune_bert.py", *names, *options, "--lr", "0.01", "--length", "48")
    assert done.returncode == 0, done.stderr
    found = [float(a) for a in re.findall(r"test accuracy, .*: ([0-9.]+) %", done.stdout)]
    assert len(found) == 2 and min(found) > 90, done.stdout
    from wengert.models.bert import BertForSequenceClassification, BertTokenizer

    model = BertForSequenceClassification.from_pretrained(tmp_path / "out")
    x = BertTokenizer.from_pretrained(tmp_path / "out")(
        ["wave ship salt tide", "star moon cloud wind"], return_tensors="wg"
    )
    assert model(**x).logits.argmax(1).tolist() == [0, 1]


def test_finetune_bert_says_where_the_sayings_come_from(tmp_path: Path) -> None:
    done = run("finetune_bert.py", "--data", tmp_path / "nowhere")
    assert done.returncode == 1 and "apt install fortunes" in done.stderr
    assert "Traceback" not in done.stderr
