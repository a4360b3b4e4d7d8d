"""Images: changes of batches, the same for any number of workers, and folders of image files."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import wengert as wg
from wengert.data import (
    Batches,
    DataError,
    DataNotFoundError,
    ImageFolder,
    MixUp,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
)
from wengert.data.images import Draws

X = np.random.default_rng(0).random((50, 3, 9, 8), np.float32)
Y = np.arange(50) % 5
CHANGES = [
    RandomCrop((9, 8), padding=2), RandomHorizontalFlip(), RandomRotation(20), RandomErasing(),
    MixUp(0.4, 5),
]  # fmt: skip


def content(data):
    return [(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in data]


@pytest.mark.smoke
def test_the_same_for_any_number_of_workers():
    found = []
    for workers in (0, 1, 3, 20):
        data = Batches(X, Y, 8, seed=3, augment=CHANGES, workers=workers)
        found.append([*content(data), *content(data)])
    assert len(found[0]) == 14 and len(set(found[0])) == 14
    assert all(f == found[0] for f in found)
    assert content(Batches(X, Y, 8, seed=4, augment=CHANGES, workers=2)) != found[0][:7]
    late = Batches(X, Y, 8, seed=3, augment=CHANGES, workers=2)
    late.load_state_dict({"epoch": 1, "batch": 3})
    assert content(late) == found[0][10:]


def test_workers_end_with_the_pass_and_raise_in_it():
    before = threading.active_count()
    data = Batches(X, Y, 5, workers=3)
    for _ in data:
        break
    assert data.batch == 1 and threading.active_count() == before

    def fails(x, y, draws):
        raise ZeroDivisionError("of mine")

    with pytest.raises(ZeroDivisionError, match="of mine"):
        list(Batches(X, Y, 5, augment=[fails], workers=2))
    assert threading.active_count() == before
    with pytest.raises(DataError, match="workers is -1"):
        Batches(X, Y, 5, workers=-1)
    with pytest.raises(DataError, match="augment"):
        Batches(X, Y, 5, augment=[3])


def test_crop():
    x, y = RandomCrop(4)(X, Y, Draws(1))
    assert x.shape == (50, 3, 4, 4) and (y == Y).all()
    places = set()
    for made, whole in zip(x, X, strict=True):
        found = [
            (i, j) for i in range(6) for j in range(5)
            if (whole[:, i : i + 4, j : j + 4] == made).all()
        ]  # fmt: skip
        assert len(found) == 1
        places.add(found[0])
    assert {i for i, _ in places} == {*range(6)} and {j for _, j in places} == {*range(5)}
    x, _ = RandomCrop((9, 8), padding=3, fill=7)(X[:1] * 0, Y[:1], Draws(2))
    assert set(np.unique(x)) <= {0, 7}
    with pytest.raises(DataError, match="9 by 8, padding included, hold no window of 10 by 10"):
        RandomCrop(10)(X, Y, Draws(1))
    with pytest.raises(DataError, match="size is 0"):
        RandomCrop(0)(X, Y, Draws(1))


def test_flip():
    x, _ = RandomHorizontalFlip(0.3)(X, Y, Draws(1))
    turned = [(a == b[..., ::-1]).all() for a, b in zip(x, X, strict=True)]
    kept = [(a == b).all() for a, b in zip(x, X, strict=True)]
    assert 5 < sum(turned) < 25 and sum(turned) + sum(kept) == 50


def test_rotation():
    square = X[..., :8, :]
    for degrees, turns in ((90, 1), (180, 2), (-90, 3), (0, 0)):
        x, _ = RandomRotation((degrees, degrees))(square, Y, Draws(1))
        np.testing.assert_allclose(x, np.rot90(square, turns, (-2, -1)), atol=2e-5)
    x, _ = RandomRotation((45, 45), fill=5.0)(np.zeros((1, 9, 9), np.float32), Y[:1], Draws(1))
    assert x[0, 0, 0] == 5 and x[0, 4, 4] == 0 and 0 <= x.min() <= x.max() <= 5
    # A plane stays a plane: bilinear weights sum to one, and the angle is that of the formula.
    v, h = np.mgrid[:21, :21].astype(np.float32) - 10
    x, _ = RandomRotation((30, 30))(h[None], Y[:1], Draws(1))
    expected = h * np.cos(np.pi / 6) - v * np.sin(np.pi / 6)
    inner = v**2 + h**2 < 80
    np.testing.assert_allclose(x[0][inner], expected[inner], atol=1e-4)


def test_erasing():
    x, _ = RandomErasing(p=0.6, value=9)(X, Y, Draws(1))
    parts = [np.argwhere(image[0] == 9) for image in x]
    assert 15 < sum(len(p) > 0 for p in parts) < 45 and X.max() < 9
    for image, whole, part in zip(x, X, parts, strict=True):
        if len(part):
            (top, left), (low, right) = part.min(0), part.max(0) + 1
            assert len(part) == (low - top) * (right - left) <= 0.5 * 72
            assert (image[:, top:low, left:right] == 9).all()
        assert (image == whole)[image != 9].all()


def test_mixup():
    x, y = MixUp(1.0, 5)(X, Y, Draws(1))
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(x.mean(0), X.mean(0), atol=1e-6)  # each takes part once as a partner
    share = y[np.arange(50), Y].min()
    np.testing.assert_allclose(
        np.unique(y.round(4)), np.unique([0, share, 1 - share, 1]), atol=1e-4
    )
    again, targets = MixUp(1.0, 5)(x, y, Draws(2))
    assert again.shape == x.shape and targets.shape == (50, 5)
    loss = wg.nn.functional.cross_entropy(wg.randn((50, 5)), wg.tensor(y))
    assert loss.isfinite().item()
    with pytest.raises(DataError, match="targets must be 0 to 3"):
        MixUp(1.0, 4)(X, Y, Draws(1))


def test_draws_are_pinned():
    """They must not change with NumPy's version: runs are resumed and compared years later."""
    draws = Draws(5, 0, 2)
    assert draws.integers(0, 9, 5).tolist() == [4, 3, 2, 0, 1]
    assert all(0 <= v < 1 for v in draws.uniform(size=100))


@pytest.fixture
def folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name, height, width in (("b/2.png", 12, 20), ("b/1.png", 10, 10), ("a/x/3.PNG", 30, 11)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path, "png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    return tmp_path


def test_image_folder(folder):
    from PIL import Image

    images = ImageFolder(folder, 10)
    assert images.classes == ["a", "b"] and images.labels.tolist() == [0, 1, 1]
    assert [p.name for p in images.paths] == ["3.PNG", "1.png", "2.png"]
    assert images.shape == (3, 3, 10, 10) and len(images) == 3
    exact = np.asarray(Image.open(folder / "b/1.png")).transpose(2, 0, 1)
    assert (images[1] == exact).all() and images[1:].shape == (2, 3, 10, 10)
    scaled = Image.open(folder / "b/2.png").resize((17, 10), Image.Resampling.BILINEAR)
    assert (images[2] == np.asarray(scaled)[:, 4:14].transpose(2, 0, 1)).all()
    grey = ImageFolder(folder, (4, 6), "L")
    assert grey[np.array([0, 2])].shape == (2, 1, 4, 6) and grey[:0].shape == (0, 1, 4, 6)
    data = Batches(images, images.labels, 2, workers=2, transform=lambda x: x / 255, seed=1)
    x, y = next(iter(data))
    assert x.shape == (2, 3, 10, 10) and y.dtype.name == "int64" and 0 <= x.min().item() < 0.1
    assert content(data) == content(
        Batches(images[:], images.labels, 2, transform=lambda x: x / 255, seed=1)
    )


def test_photos_are_turned_as_the_camera_says(folder):
    from PIL import Image

    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(folder / "a" / "turned.png", exif=exif)
    images = ImageFolder(folder, 8)
    turned = images[[p.name for p in images.paths].index("turned.png")]
    assert (turned[:, :4] == 255).all() and (turned[:, 4:] == 0).all()


def test_bad_folders_are_refused(folder, tmp_path):
    (folder / "a" / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no jpeg")
    images = ImageFolder(folder, 10)
    with pytest.raises(DataError, match=r"cannot read .*bad\.jpg"):
        images[:]
    with pytest.raises(DataError, match=r"cannot read .*bad\.jpg"):
        list(Batches(images, images.labels, 4, workers=2))
    with pytest.raises(DataNotFoundError, match="no directory"):
        ImageFolder(tmp_path / "nowhere", 10)
    with pytest.raises(DataError, match="has no images; expected a directory for each class"):
        ImageFolder(folder / "a" / "x", 10)
    for size in (0, (3,), (4, -1)):
        with pytest.raises(DataError, match="size is"):
            ImageFolder(folder, size)
    with pytest.raises(DataError, match="mode is 'CMYK'"):
        ImageFolder(folder, 10, "CMYK")
