"""What a trained network looks at, as pictures, and a table of the classes that it gets wrong.

    python examples/study/attribution.py                        the 8x8 digits, trained first
    python examples/study/attribution.py --data DIR             IDX images, such as Fashion-MNIST
    python examples/study/attribution.py --epochs 30 --out DIR

Writes attributions.png (saliency, input x gradient, integrated gradients), layers.png (how each
layer's units carry the score) and prints the completeness sums of the integrated gradients and the
bias table. The last column of the picture is the saliency of the same network before training: a
map that looks the same there says little about what was learned.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np

import wengert
from wengert import data, nn, optim
from wengert.study import attribution
from wengert.train import fit, predict


def main() -> None:
    """Trains, explains some test samples, and says for which classes the network is worst."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or a directory of IDX files")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--samples", type=int, default=6, help="in the pictures")
    parser.add_argument("--subset", type=int, default=None, help="train on so many samples only")
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    dataset = data.load(arguments.data, -1, "class", 0.2, 0)
    parts, classes = dataset.parts, dataset.classes or []
    wengert.manual_seed(0)
    model = nn.MLP([dataset.features, 128, 64, len(classes)])
    untrained = copy.deepcopy(model)
    optimizer = optim.Adam(model.parameters(), lr=0.002)
    x, y = parts.x_train[: arguments.subset], parts.y_train[: arguments.subset]
    batches = data.Batches(x, y, 64, transform=dataset.standardizer)
    fit(model, wengert.cross_entropy, optimizer, batches, epochs=arguments.epochs)

    outputs = predict(model, parts.x_test, transform=dataset.standardizer)
    table = attribution.bias_table(outputs, parts.y_test, names=classes)
    print(attribution.bias_text(table))

    # The samples: the one that hurts most of each of the worst classes.
    chosen = [group.worst[0] for group in table[:-1]][: arguments.samples]
    shown = dataset.standardizer(parts.x_test[chosen]).astype(np.float32)
    nothing = dataset.standardizer(np.zeros_like(parts.x_test[chosen])).astype(np.float32)
    target = outputs[chosen].argmax(axis=1)
    integrated, completeness = attribution.integrated_gradients(
        model, shown, nothing, target, steps=256
    )
    print("\nintegrated gradients add up to the difference of the scores:")
    print(completeness)
    side = int(dataset.features**0.5)
    images = parts.x_test[chosen].reshape(-1, side, side)
    titles = [
        f"{classes[parts.y_test[i]]}, taken\nfor {classes[t]}"
        for i, t in zip(chosen, target, strict=True)
    ]
    maps = {
        "saliency": attribution.saliency(model, shown, target),
        "input x gradient": attribution.input_x_gradient(model, shown, target),
        "integrated gradients": integrated,
        "saliency, untrained": attribution.saliency(untrained, shown, target),
    }
    written = [attribution.pictures(arguments.out / "attributions.png", images, maps, titles)]

    layers = attribution.layer_attribution(model, shown, target)
    print("\nthe score of each sample, carried from layer to layer (sum of activation x gradient):")
    for name, part in layers.items():
        print(f"  {name:10}" + "".join(f"{v:10.3f}" for v in part.sum(axis=1)))
    written.append(attribution.pictures(arguments.out / "layers.png", images, layers, titles))
    print("\nwrote " + " and ".join(str(path) for path in written))


if __name__ == "__main__":
    main()
