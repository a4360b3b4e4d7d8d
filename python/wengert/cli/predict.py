"""`wengert predict`: what a trained network says of the rows of a file."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .options import build_model, column, read_config, shaped


def add_parser(commands: Any) -> None:
    """The command and its options."""
    predict = commands.add_parser("predict", help="class and probability of each row of a file")
    predict.add_argument("checkpoint", help="a checkpoint that wengert train wrote")
    predict.add_argument(
        "file",
        help="digits (their test part), a .csv, a .npz, IDX images, an image, a folder of images",
    )
    predict.set_defaults(run=predict_command)


def predict_command(arguments: argparse.Namespace) -> int:
    """wengert predict"""
    import numpy as np

    import wengert
    from wengert import data, parallel
    from wengert.io import load_checkpoint
    from wengert.train import predict
    from wengert.train.report import plain

    config = read_config(arguments.checkpoint)
    model = build_model(config)
    found = load_checkpoint(arguments.checkpoint, model=model)
    if found.averaged is not None:  # what was judged
        prefix = "module."
        mean = {k[len(prefix) :]: v for k, v in found.averaged.items() if k.startswith(prefix)}
        model.load_state_dict(mean)
    standardizer = data.Standardizer(**config["standardizer"])
    meta = {**config, "target": column(config["target"])}
    x, y = data.load_inputs(arguments.file, config["features"], meta)
    rows = shaped(x, config)
    comm = parallel.world()
    (outputs,) = parallel.spread(
        comm,
        len(rows),
        1024,
        lambda start, stop: (predict(model, rows[start:stop], config["dtype"], standardizer),),
    )
    if comm.rank:  # rank 0 prints
        return 0
    names = [plain(name) for name in config["classes"] or ()]
    if not names:
        print("row\tvalue")
        for row, values in enumerate(outputs):
            print(f"{row}\t" + "\t".join(f"{value:.6g}" for value in values))
        if y is not None:
            error = float(np.sqrt(((outputs - y) ** 2).mean()))
            print(f"error {error:.4g} (root mean square, {len(y)} rows)", file=sys.stderr)
        return 0
    if config["loss"] == "cross_entropy":
        with wengert.no_grad():
            outputs = wengert.softmax(wengert.from_numpy(outputs)).numpy()
    best = outputs.argmax(axis=1)
    # A network trained on squared error gives scores near 0 and 1, which are not probabilities.
    print("row\tclass\t" + ("probability" if config["loss"] == "cross_entropy" else "score"))
    for row, winner in enumerate(best):
        print(f"{row}\t{names[winner]}\t{outputs[row, winner]:.4f}")
    if y is not None:
        right = int(np.count_nonzero(best == y))
        print(f"accuracy {100 * right / len(y):.2f} % ({right} of {len(y)})", file=sys.stderr)
    return 0
