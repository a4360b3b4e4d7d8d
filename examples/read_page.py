"""A page of Chinese and English text, read by PP-OCRv4's three networks from their ONNX files.

    pip install --no-deps rapidocr-onnxruntime==1.4.4 && pip install "wengert[onnx,images]"
    python examples/read_page.py [PHOTO ...] [--weights DIR] [--font FILE] [--out DIR]

Without a photo it draws a page of its own, and says how much of it was read right. The package
(Apache-2.0; the networks are PaddlePaddle's) is data only and not imported. Writes read.png: the
page with the lines that were found, and beside it what they say.

The first network marks the pixels of text; each patch of them becomes the smallest rectangle around
it, grown a little (Liao et al. 2020, "Real-time scene text detection with differentiable
binarization"). The second says which lines are upside down. The third gives each sign a share of
each column of a line; equal neighbours and blanks fall away (Graves et al. 2006, "Connectionist
temporal classification").
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from rich.progress import track

import wengert
from wengert.nn.functional import interpolate

PACKAGE = "rapidocr-onnxruntime"
FILES = ["ch_PP-OCRv4_det_infer.onnx", "ch_ppocr_mobile_v2.0_cls_infer.onnx"]
FILES += ["ch_PP-OCRv4_rec_infer.onnx"]
SHA256 = [
    "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
]
FONTS = [  # of Debian's fonts-wqy-zenhei, fonts-wqy-microhei and fonts-noto-cjk
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
]
PAGE = [
    "反向传播算法的历史",
    "A Wengert list records each operation once,",
    "in the order in which it was computed.",
    "自动微分既不是符号微分，也不是数值微分。",
    "R. E. Wengert, Communications of the ACM, 1964",
    "链式法则从最后一行开始，逐行向前。",
    "Seppo Linnainmaa described the reverse mode in 1970.",
    "神经网络有权重、偏置和激活函数。",
    "Gradients flow backwards: 3 lines of 12 are enough.",
    "今天是2026年11月30日，星期一。",
]
AT_ONCE = 6  # lines of a batch


class Line(NamedTuple):
    """A line of text as it was read."""

    text: str
    share: float  # the mean of its signs' shares
    corners: Any  # (4, 2): x and y, from the top left clockwise


# ---- where the lines are


def patches(mask: Any) -> list[Any]:
    """(x, y) of the ends of the runs of each patch of True; corners that touch join patches."""
    change = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8))
    rows, starts = np.nonzero(change == 1)
    ends = np.nonzero(change == -1)[1]  # exclusive; in the same order
    patch = np.arange(len(rows))  # of each run; a patch is known by its first run

    def first(run: int) -> int:
        while patch[run] != run:
            run = patch[run]
        return run

    above = 0  # the first run of the row above that may touch
    for i, row in enumerate(rows):
        while rows[above] < row - 1 or (rows[above] == row - 1 and ends[above] < starts[i]):
            above += 1
        j = above
        while rows[j] == row - 1 and starts[j] <= ends[i]:
            a, b = sorted((first(i), first(j)))
            patch[b] = a
            j += 1
    found: dict[int, list[Any]] = {}
    for i, row in enumerate(rows):
        found.setdefault(first(i), []).extend([(starts[i], row), (ends[i] - 1, row)])
    return [np.array(points, np.float64) for points in found.values()]


def hull(points: Any) -> Any:
    """The corners of the convex hull, by Andrew's monotone chain."""
    ordered = sorted(map(tuple, points))
    halves = []
    for way in (ordered, ordered[::-1]):
        half: list[Any] = []
        for x, y in way:
            while len(half) > 1 and (half[-1][0] - half[-2][0]) * (y - half[-2][1]) <= (
                half[-1][1] - half[-2][1]
            ) * (x - half[-2][0]):
                half.pop()
            half.append((x, y))
        halves += half[:-1]
    return np.array(halves or ordered[:1])


def rectangle(points: Any) -> Any:
    """The corners of the smallest rectangle around points: one of its sides lies on their hull."""
    around = hull(points)
    sides = np.vstack([[1.0, 0.0], np.roll(around, -1, axis=0) - around])
    along = sides[np.linalg.norm(sides, axis=1) > 0]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * [-1, 1]
    reach = np.stack([around @ along.T, around @ across.T])  # (2, points, sides)
    low, high = reach.min(1), reach.max(1)
    best = int(np.argmin((high - low).prod(0)))
    ends = np.stack([low[:, best], high[:, best]])
    corners = [ends[i, 0] * along[best] + ends[j, 1] * across[best] for i in (0, 1) for j in (0, 1)]
    return clockwise(np.array(corners))


def clockwise(corners: Any) -> Any:
    """Four corners from the top left: of the two on the left the upper, of those on the right."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    a, d = left[np.argsort(left[:, 1], kind="stable")]
    b, c = right[np.argsort(right[:, 1], kind="stable")]
    return np.array([a, b, c, d])


def lengths(corners: Any) -> tuple[float, float]:
    """(width, height) of four corners: the longer of each two sides."""
    a, b, c, d = (np.linalg.norm(corners[i] - corners[(i + 1) % 4]) for i in range(4))
    return float(max(a, c)), float(max(b, d))


def grown(corners: Any, by: float) -> Any:
    """The smallest rectangle around discs of that radius about the corners, in whole pixels."""
    turns = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    disc = by * np.stack([np.cos(turns), np.sin(turns)], 1)
    return rectangle(np.rint(np.trunc(corners)[:, None] + disc).reshape(-1, 2))


def boxes(shares: Any, height: int, width: int) -> list[Any]:
    """The rectangles of text in a map of shares, in the pixels of a page of that size."""
    mask = np.pad(shares > 0.3, ((1, 0), (1, 0)))
    mask = mask[1:, 1:] | mask[:-1, 1:] | mask[1:, :-1] | mask[:-1, :-1]
    high, wide = shares.shape
    found = []
    for points in patches(mask):
        corners = rectangle(points)
        sides = lengths(corners)
        if min(sides) < 3:
            continue
        inside = Image.new("1", (wide, high))
        ImageDraw.Draw(inside).polygon([(int(x), int(y)) for x, y in corners], fill=1)
        if shares[np.asarray(inside)].mean() < 0.5:
            continue
        corners = grown(corners, 1.6 * math.prod(sides) / (2 * sum(sides)))
        corners = np.round(corners / (wide, high) * (width, height))
        corners = clockwise(np.clip(corners, 0, (width - 1, height - 1)))
        if min(lengths(corners)) > 3:
            found.append(corners)
    return in_order(found)


def in_order(found: list[Any]) -> list[Any]:
    """From the top; of boxes whose tops differ by less than ten pixels the left one first."""
    ordered: list[Any] = []
    for box in sorted(found, key=lambda box: (box[0][1], box[0][0])):
        at = len(ordered)
        while at and box[0][1] - ordered[at - 1][0][1] < 10 and box[0][0] < ordered[at - 1][0][0]:
            at -= 1
        ordered.insert(at, box)
    return ordered


# ---- pixels


def resized(image: Any, height: int, width: int) -> Any:
    """An image of another size, each pixel between its four neighbours."""
    x = wengert.tensor(image.transpose(2, 0, 1)[None].astype(np.float32))
    y = interpolate(x, (height, width), mode="bilinear").numpy()
    return np.rint(y[0].transpose(1, 2, 0)).astype(np.uint8)


def straightened(image: Any, corners: Any) -> Any:
    """What lies between four corners, as seen from the front; lines that run down are laid flat."""
    width, height = map(int, lengths(corners))
    # The map of the rectangle's (x, y) to (a, b) of the image: a (g x + h y + 1) = p x + q y + r.
    equations = []
    for (x, y), (a, b) in zip(
        [(0, 0), (width, 0), (width, height), (0, height)], corners, strict=True
    ):
        equations += [[x, y, 1, 0, 0, 0, -a * x, -a * y], [0, 0, 0, x, y, 1, -b * x, -b * y]]
    way = np.append(np.linalg.solve(np.array(equations), corners.reshape(-1)), 1).reshape(3, 3)
    y, x = np.mgrid[:height, :width]
    a, b, scale = np.tensordot(way, np.stack([x, y, np.ones_like(x)]), 1)
    seen = cubic(image, a / scale, b / scale)
    return np.rot90(seen) if height >= 1.5 * width else seen


def cubic(image: Any, x: Any, y: Any) -> Any:
    """The image at places between its pixels (Keys 1981, a = -0.75); its edges go on outside."""

    def weights(t: Any) -> Any:
        near, far = abs(t), 2 - abs(t)  # no tap is further than 2
        return np.where(near <= 1, (1.25 * near - 2.25) * near**2 + 1, 0.75 * far**2 * (far - 1))

    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    made = np.zeros((*x.shape, image.shape[2]))
    for j in range(-1, 3):
        row = np.zeros_like(made)
        ys = np.clip(y0 + j, 0, image.shape[0] - 1)
        for i in range(-1, 3):
            xs = np.clip(x0 + i, 0, image.shape[1] - 1)
            row += weights(x - x0 - i)[..., None] * image[ys, xs]
        made += weights(y - y0 - j)[..., None] * row
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def fitted(image: Any, height: int, width: int) -> Any:
    """(3, height, width) for a network: the image at that height, from -1 to 1, and zeros after."""
    own = min(math.ceil(height * image.shape[1] / image.shape[0]), width)
    made = np.zeros((3, height, width), np.float32)
    made[:, :, :own] = resized(image, height, own).transpose(2, 0, 1) / np.float32(127.5) - 1
    return made


# ---- the networks


class Reader:
    """The three networks of a folder, and what lies between them."""

    def __init__(self, folder: Path) -> None:
        """Reads the files; what is wrong with one is said by wengert.onnx.load."""
        import wengert.onnx

        self.find, self.turn, self.spell = (wengert.onnx.load(folder / name) for name in FILES)
        signs = self.spell.metadata.get("character")
        if signs is None:
            raise ValueError(f"{folder}: the third network does not say which signs it knows")
        self.signs = ["", *signs.splitlines(), " "]  # first the blank between equal signs

    def __call__(self, image: Any) -> list[Line]:
        """The lines of a page (height, width, 3), blue first, from the top."""
        with wengert.no_grad():
            found = self.boxes(image)
            parts = [straightened(image, corners) for corners in found]
            for batch in track(in_batches(parts), "which way up", transient=True):
                shares = self.turn(np.stack([fitted(parts[i], 48, 192) for i in batch])).numpy()
                for i, share in zip(batch, shares[:, 1], strict=True):
                    parts[i] = parts[i][::-1, ::-1] if share > 0.9 else parts[i]
            read: dict[int, tuple[str, float]] = {}
            for batch in track(in_batches(parts), "reading", transient=True):
                widest = max(320 / 48, *(parts[i].shape[1] / parts[i].shape[0] for i in batch))
                x = np.stack([fitted(parts[i], 48, int(48 * widest)) for i in batch])
                read |= zip(batch, map(self.text, self.spell(x).numpy()), strict=True)
        return [Line(*read[i], found[i]) for i in range(len(found)) if read[i][1] >= 0.5]

    def boxes(self, image: Any) -> list[Any]:
        """The corners of each line, in order. The shorter side is enlarged to 736 pixels."""
        height, width = image.shape[:2]
        scale = max(736 / min(height, width), 1)
        high, wide = (max(round(int(n * scale) / 32), 1) * 32 for n in (height, width))
        x = resized(image, high, wide).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
        return boxes(self.find(x).numpy()[0, 0], height, width)

    def text(self, shares: Any) -> tuple[str, float]:
        """The text of (columns, signs), and the mean share of its signs."""
        best = shares.argmax(1)
        kept = (best != 0) & (np.diff(best, prepend=-1) != 0)
        text = "".join(self.signs[i] for i in best[kept])
        return text, float(shares.max(1)[kept].mean()) if text else 0.0


def in_batches(parts: Sequence[Any]) -> list[list[int]]:
    """Numbers of the parts, those of similar shape together."""
    order = sorted(range(len(parts)), key=lambda i: parts[i].shape[1] / parts[i].shape[0])
    return [order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)]


# ---- pages


def photo(path: Path) -> Any:
    """The pixels of a file, blue first; at most 2000 on a side. A strip gets room above and below,
    black, without which the first network finds nothing."""
    try:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise SystemExit(f"{path}: cannot be read as an image: {error}") from None
    pixels = np.asarray(image)[:, :, ::-1]
    height, width = pixels.shape[:2]
    if max(height, width) > 2000:
        scale = 2000 / max(height, width)
        pixels = resized(
            pixels, *(max(round(int(n * scale) / 32), 1) * 32 for n in (height, width))
        )
    height, width = pixels.shape[:2]
    if height <= 30 or width > 8 * height:
        room = abs(2 * max(width // 8, 30) - height) // 2
        pixels = np.pad(pixels, ((room, room), (0, 0), (0, 0)))
    return pixels


def drawn(lines: Sequence[str], font: str) -> Any:
    """A white page with lines of text."""
    page = Image.new("RGB", (1000, 60 + 64 * len(PAGE)), "white")
    pen, face = ImageDraw.Draw(page), ImageFont.truetype(font, 32)
    for i, line in enumerate(lines):
        pen.text((50, 40 + 64 * i), line, "black", face)
    return np.asarray(page)[:, :, ::-1]


def picture(image: Any, lines: Sequence[Line], font: str | None, path: Path) -> None:
    """The page with its lines framed, and beside it what was read, each line where it stood."""
    page = Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))
    both = Image.new("RGB", (2 * page.width, page.height), "white")
    both.paste(page)
    pen = ImageDraw.Draw(both)
    for line in lines:
        pen.polygon([tuple(corner) for corner in line.corners], outline="red")
        size = max(0.7 * min(lengths(line.corners)), 8)
        face = ImageFont.truetype(font, size) if font else ImageFont.load_default(size)
        x, y = line.corners[0]
        pen.text((page.width + x, y), line.text, "black", face)
    path.parent.mkdir(parents=True, exist_ok=True)
    both.save(path)
    print(path)


def apart(a: str, b: str) -> int:
    """The characters to insert, drop or change that make b of a (Levenshtein 1966)."""
    costs = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, costs[0] = costs[0], i
        for j, y in enumerate(b, 1):
            before, costs[j] = costs[j], min(before + (x != y), costs[j] + 1, costs[j - 1] + 1)
    return costs[-1]


def installed() -> Path | None:
    """The folder of the package's networks, if they are those that this was written for."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = {Path(f).name: Path(str(f.locate())) for f in files if Path(f).name in FILES}
    if len(found) < len(FILES):
        return None
    for name, expected in zip(FILES, SHA256, strict=True):
        if hashlib.sha256(found[name].read_bytes()).hexdigest() != expected:
            raise SystemExit(f"{found[name]} is not the file of version 1.4.4; see --weights")
    return found[FILES[0]].parent


def main() -> None:
    """Read the networks, then the pages; print and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO")
    parser.add_argument("--weights", type=Path, help="the folder of the three ONNX files")
    parser.add_argument("--font", default=next((f for f in FONTS if Path(f).is_file()), None),
                        help="a font file with Chinese signs")  # fmt: skip
    parser.add_argument("--lines", type=int, default=len(PAGE), help="of the page that is drawn")
    parser.add_argument("--out", type=Path, default=Path(), help="where read.png goes")
    options = parser.parse_args()
    folder = options.weights or installed()
    if folder is None:
        raise SystemExit(f"no networks: pip install --no-deps {PACKAGE}==1.4.4")
    if not options.photos and options.font is None:
        raise SystemExit("no font with Chinese signs: apt install fonts-wqy-zenhei, or --font FILE")
    try:
        reader = Reader(folder)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    for name, image in pages(options):
        lines = reader(image)
        print(f"{name}: {len(lines)} lines")
        for line in lines:
            print(f"{line.share:6.3f}  {line.text}")
        if not options.photos:
            wanted, read = PAGE[: options.lines], [line.text for line in lines]
            wrong = apart("\n".join(wanted), "\n".join(read))
            print(f"{wrong} characters of {sum(map(len, wanted))} are wrong")
        suffix = "" if len(options.photos) < 2 else f"-{Path(name).stem}"
        picture(image, lines, options.font, options.out / f"read{suffix}.png")


def pages(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """The name and pixels of each page."""
    if not options.photos:
        yield "a page drawn here", drawn(PAGE[: options.lines], options.font)
    for path in options.photos:
        yield path.name, photo(path)


if __name__ == "__main__":
    main()
