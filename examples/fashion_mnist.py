"""Fashion-MNIST with a 784-256-10 network: 60,000 images to learn from, 10,000 to test.

Ten epochs of Adam in batches of 128, the learning rate falling along a cosine: 88 % or more of the
test images. On Debian or Ubuntu, `apt install dataset-fashion-mnist` brings them; MNIST itself and
whatever else of ten classes is kept in such files works as well.

    python examples/fashion_mnist.py [DIRECTORY] [--epochs 10] [--subset N]
"""

from __future__ import annotations

import argparse
import time

import wengert
from wengert import nn, optim
from wengert.data import Batches, DataError, Standardizer, load_idx_directory
from wengert.train import predict, right_answers

DEBIAN = "/usr/share/datasets/fashion-mnist"


def main() -> None:
    """Read the images, train, test after every epoch."""
    parser = argparse.ArgumentParser(description="Train 784-256-10 on Fashion-MNIST.")
    parser.add_argument("directory", nargs="?", default=DEBIAN, help="where the IDX files are")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--subset", type=int, help="learn from the first N images only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    try:
        data = load_idx_directory(options.directory)
    except DataError as error:
        raise SystemExit(str(error)) from None
    x_train = data.x_train.reshape(len(data.x_train), -1)[: options.subset]
    y_train = data.y_train[: options.subset]
    x_test = data.x_test.reshape(len(data.x_test), -1)
    standardize = Standardizer.fit(x_train, per_feature=False)
    training = Batches(x_train, y_train, 128, seed=options.seed, transform=standardize)

    wengert.manual_seed(options.seed)
    model = nn.MLP([x_train.shape[1], 256, 10], activation="relu")
    optimizer = optim.Adam(model.parameters(), lr=0.002)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=options.epochs)
    began = time.perf_counter()
    for epoch in range(options.epochs):
        total = 0.0
        for x, y in training:  # in another order in every epoch
            optimizer.zero_grad()
            loss = wengert.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        schedule.step()
        outputs = predict(model, x_test, transform=standardize)
        accuracy = right_answers(outputs, data.y_test) / len(data.y_test)
        print(
            f"epoch {epoch + 1:2}  loss {total / len(x_train):.4f}  "
            f"test accuracy {100 * accuracy:.2f} %  {time.perf_counter() - began:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
