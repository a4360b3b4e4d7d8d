"""Images: folders of them, and random changes of a batch that make more of what there is.

Changes have torchvision's names and defaults. Each takes a batch of images (n, ..., H, W), float32,
its targets and the draws of this batch, and gives images and targets; a function of that form does,
too. The draws depend on the seed, the epoch and the batch alone, not on the thread that makes it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .. import _explained
from .errors import DataError, DataNotFoundError

Array = npt.NDArray[Any]
_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class Draws:
    """Random numbers of one batch: PCG64's words, whose stream NumPy promises to keep."""

    def __init__(self, *key: int) -> None:
        """key: whole numbers, 0 or more."""
        self._words = np.random.PCG64(key)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int = 1) -> Array:
        """float64 in [low, high)."""
        raw = np.asarray(self._words.random_raw(size) >> np.uint64(11), np.float64)
        return low + (high - low) * (raw * 2.0**-53)

    def integers(self, low: int, high: int, size: int = 1) -> Array:
        """int64 from low to high, both included."""
        return np.floor(self.uniform(low, high + 1, size)).astype(np.int64)

    def beta(self, alpha: float) -> float:
        """One number of Beta(alpha, alpha); another one in another version of NumPy, perhaps."""
        return float(np.random.Generator(self._words).beta(alpha, alpha))


class Change(Protocol):
    """A change of a batch: images, targets and this batch's draws to images and targets."""

    def __call__(self, x: Array, y: Array, draws: Draws, /) -> tuple[Array, Array]:
        """The batch, changed."""


class RandomCrop(NamedTuple):
    """A window of `size` (a number, or H and W) at a random place, after `padding` on each side
    with `fill`."""

    size: int | tuple[int, int]
    padding: int = 0
    fill: float = 0.0

    def __call__(self, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        """A window of each image."""
        p, (height, width) = self.padding, _pair("RandomCrop", self.size)
        x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(p, p)] * 2, constant_values=self.fill)
        down, right = x.shape[-2] - height, x.shape[-1] - width
        if min(down, right) < 0:
            raise DataError(
                f"RandomCrop: images of {x.shape[-2]} by {x.shape[-1]}, padding included, hold no "
                f"window of {height} by {width}; give more padding"
            )
        tops, lefts = draws.integers(0, down, len(x)), draws.integers(0, right, len(x))
        made = np.empty((*x.shape[:-2], height, width), x.dtype)
        for into, image, top, left in zip(made, x, tops, lefts, strict=True):
            into[...] = image[..., top : top + height, left : left + width]
        return made, y


class RandomHorizontalFlip(NamedTuple):
    """Left and right exchanged, with probability p."""

    p: float = 0.5

    def __call__(self, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        """Some of the images mirrored."""
        turned = draws.uniform(size=len(x)) < self.p
        return np.where(turned.reshape(-1, *(1,) * (x.ndim - 1)), x[..., ::-1], x), y


class RandomRotation(NamedTuple):
    """Turned about the centre by an angle within `degrees` (a number: both ways), bilinear; what
    comes from outside of the image is `fill`."""

    degrees: float | tuple[float, float]
    fill: float = 0.0

    def __call__(self, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        """Each image turned by an angle of its own, counter-clockwise where it is positive."""
        low, high = (
            self.degrees if isinstance(self.degrees, tuple) else (-self.degrees, self.degrees)
        )
        angle = np.deg2rad(draws.uniform(low, high, len(x))).reshape(-1, 1, 1)
        height, width = x.shape[-2:]
        v, h = np.ogrid[:height, :width]
        v, h = v - (height - 1) / 2, h - (width - 1) / 2
        rows = (v * np.cos(angle) + h * np.sin(angle) + (height - 1) / 2).astype(np.float32)
        columns = (h * np.cos(angle) - v * np.sin(angle) + (width - 1) / 2).astype(np.float32)
        # A border of one pixel of fill: a place outside takes its share of it.
        edged = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1)] * 2, constant_values=self.fill)
        rows, columns = np.clip(rows + 1, 0, height + 1), np.clip(columns + 1, 0, width + 1)
        top = np.minimum(rows.astype(np.int64), height)
        left = np.minimum(columns.astype(np.int64), width)
        down, right = rows - top, columns - left
        made = np.empty_like(x)
        for i, image in enumerate(edged):
            t, l, d, r = top[i], left[i], down[i], right[i]  # noqa: E741
            upper = image[..., t, l] * (1 - r) + image[..., t, l + 1] * r
            lower = image[..., t + 1, l] * (1 - r) + image[..., t + 1, l + 1] * r
            made[i] = upper * (1 - d) + lower * d
        return made, y


class RandomErasing(NamedTuple):
    """A rectangle of `value`, with probability p: its share of the area is within `scale`, its
    height over width within `ratio`. arXiv 1708.04896."""

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float = 0.0

    def __call__(self, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        """Some of the images with a part erased."""
        x = x.copy()
        height, width = x.shape[-2:]
        for image, chance in zip(x, draws.uniform(size=len(x)), strict=True):
            if chance >= self.p:
                continue
            for _ in range(10):  # as torchvision: a rectangle that fits, or none
                area = draws.uniform(*self.scale)[0] * height * width
                ratio = np.exp(draws.uniform(*np.log(self.ratio))[0])
                h, w = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
                if 0 < h < height and 0 < w < width:
                    top, left = draws.integers(0, height - h)[0], draws.integers(0, width - w)[0]
                    image[..., top : top + h, left : left + w] = self.value
                    break
        return x, y


class MixUp(NamedTuple):
    """Each image a mean of itself and another of the batch, its target likewise: shares of
    num_classes classes. The weight is one of Beta(alpha, alpha). arXiv 1710.09412."""

    alpha: float
    num_classes: int

    def __call__(self, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        """Mixed images, and targets (n, num_classes)."""
        if y.ndim == 1:
            if y.dtype.kind not in "iub" or not np.isin(y, np.arange(self.num_classes)).all():
                raise DataError(f"MixUp: targets must be 0 to {self.num_classes - 1}; got {y}")
            y = np.eye(self.num_classes, dtype=np.float32)[y]
        share = np.float32(draws.beta(self.alpha))
        other = np.argsort(draws.uniform(size=len(x)), kind="stable")
        return x * share + x[other] * (1 - share), y * share + y[other] * (1 - share)


def _pair(op: str, size: int | tuple[int, int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise DataError(f"{op}: size is {size}; it must be a number of pixels, or two (H and W)")
    return pair[0], pair[1]


class ImageFolder:
    """Images in a directory for each class, decoded when a batch asks for them.

        images = ImageFolder("flowers", size=224)  # flowers/rose/1.jpg, flowers/tulip/7.png, ...
        for x, y in Batches(images, images.labels, 32, workers=4, transform=lambda x: x / 255): ...

    size   of all images, a number or (H, W): they are scaled so that the shorter side fits
           (bilinear, antialiased), and cut about the centre.
    mode   Pillow's: "RGB" gives (n, 3, H, W), "L" (grey) gives (n, 1, H, W), of uint8.

    classes are the directories' names in order, labels their numbers (int64), paths the files. An
    image that a camera has turned by its EXIF tag is turned back. Needs Pillow (pip install
    wengert[images]). DataError names a file that cannot be read.
    """

    def __init__(
        self, path: str | os.PathLike[str], size: int | tuple[int, int], mode: str = "RGB"
    ) -> None:
        """Lists the files; reads none."""
        root = Path(path)
        if mode not in ("RGB", "L"):
            raise DataError(f"ImageFolder: mode is {mode!r}; expected 'RGB' or 'L'")
        if not root.is_dir():
            raise DataNotFoundError(f"ImageFolder: no directory {root}; check the path")
        self.size, self.mode = _pair("ImageFolder", size), mode
        self.classes = sorted(p.name for p in root.iterdir() if p.is_dir())
        found = [
            (file, label)
            for label, name in enumerate(self.classes)
            for file in sorted((root / name).rglob("*"))
            if is_image(file) and file.is_file()
        ]
        if not found:
            raise DataError(
                f"ImageFolder: {root} has no images; expected a directory for each class, with "
                f"files such as {root}/cat/1.jpg"
            )
        self.paths = [file for file, _ in found]
        self.labels = np.array([label for _, label in found], np.int64)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, channels, H, W)."""
        return (len(self.paths), 3 if self.mode == "RGB" else 1, *self.size)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __getitem__(self, rows: Any) -> Array:
        """The images of these rows, as one array."""
        numbers = np.arange(len(self))[rows]
        chosen = [read_image(self.paths[i], self.size, self.mode) for i in np.atleast_1d(numbers)]
        made = np.stack(chosen) if chosen else np.empty((0, *self.shape[1:]), np.uint8)
        return made if np.ndim(numbers) else made[0]


def is_image(path: Path) -> bool:
    """Whether the name is that of an image."""
    return path.suffix.lower() in _ENDINGS


def read_image(path: Path, size: tuple[int, int], mode: str) -> Array:
    """The image of a file as ImageFolder gives it: (channels, H, W), uint8."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('images need Pillow: pip install "wengert[images]"') from error
    height, width = size
    try:
        with Image.open(path) as image:
            whole = ImageOps.exif_transpose(image).convert(mode)
            by = max(height / whole.height, width / whole.width)
            scaled = whole.resize(
                (max(round(whole.width * by), width), max(round(whole.height * by), height)),
                Image.Resampling.BILINEAR,
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"ImageFolder: cannot read {path}: {error}") from error
    left, top = round((scaled.width - width) / 2), round((scaled.height - height) / 2)
    array = np.asarray(scaled.crop((left, top, left + width, top + height)))
    return array.transpose(2, 0, 1) if array.ndim == 3 else array[None]


def augmented(
    x: Array, y: Array, changes: Sequence[Change], key: tuple[int, ...]
) -> tuple[Array, Array]:
    """A batch after its changes; x as float32."""
    if not changes:
        return x, y
    x, draws = np.array(x, np.float32), Draws(*key)
    for change in changes:
        x, y = change(x, y, draws)
    return x, y


_explained.explain_all(globals())
