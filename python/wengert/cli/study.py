"""`wengert study`: a step of a script or of a small network, in the terminal or written out."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    DEFAULTS,
    LEARNING_RATES,
    TEST_FRACTION,
    add_setting,
    build_loss,
    build_model,
    build_optimizer,
    encoders_of,
    number,
    scaler_of,
    shaped,
)

if TYPE_CHECKING:
    from wengert.study import Program


def add_parser(commands: Any) -> None:
    """The command and its options."""
    study = commands.add_parser(
        "study",
        help="step through every line of forward and backward",
        description="Trace one step of a script, or of a small network on data, and step through "
        "it in the terminal, or write it out.",
    )
    add = study.add_argument
    add(
        "script",
        nargs="?",
        help="a Python file, of which one optimizer step is studied (a network on the digits)",
    )
    add(
        "--step",
        type=number(int, 1, 10**6),
        default=2,
        metavar="N",
        help="which step of the script (2: the first has set-up before it)",
    )
    add(
        "--every",
        type=number(int, 1, 10**6),
        metavar="K",
        help="with --html: also keep every K-th step before, for a page over the training (none)",
    )
    add(
        "--model",
        choices=("mlp", "convnet"),
        help="a network instead of a script (mlp, where there is no script)",
    )
    add_setting(study, "data", default="digits", help="as for wengert train (digits)")
    add_setting(study, "encode", help="as for wengert train (none)")
    add_setting(study, "layers", default=[16], help="mlp: (16)")
    add_setting(study, "width", default=4, help="convnet: channels of its first stage (4)")
    add_setting(study, "depth", default=1)
    add_setting(study, "batch", default=8, help="samples (8)")
    add("--load", metavar="FILE", help="a list that --json wrote, instead of a script (none)")
    add("--list", action="store_true", help="print the list")
    add("--costs", action="store_true", help="print FLOPs, bytes and times")
    add("--check", action="store_true", help="check every gradient")
    add("--html", metavar="FILE", help="write the page")
    add("--json", metavar="FILE", help="write the list")
    add("--numpy", metavar="FILE", help="write forward and backward as NumPy code")
    add("--dot", metavar="FILE", help="write the graph for Graphviz")
    add(
        "--drill",
        nargs="?",
        const="",
        metavar="NAME",
        help="find a planted fault (without a name: a list of them)",
    )
    study.set_defaults(run=study_command)


def trace_script(path: Path, arguments: list[str], steps: int, every: int | None = None) -> Program:
    """Runs a script under trace until its optimizer has made `steps` steps, or to its end, which
    the program's notes then say.

    With `every`, each so-many-th step before is kept in `program.earlier`.

    What the script raises is told, and what was recorded until then is kept.
    """
    from wengert.study import StudyError
    from wengert.study.tracing import record

    if not path.is_file():
        raise StudyError(f"study: no script {path}")
    former = sys.argv, sys.path[:]
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        return record(
            lambda: runpy.run_path(str(path), run_name="__main__"), steps=steps, every=every
        )
    except Exception as error:
        program: Program | None = getattr(error, "program", None)
        if program is None:
            raise
        if not program.lines:
            raise StudyError(
                f"study: {path.name} raised {type(error).__name__}: {error}, before it ran any op "
                "of wengert; run it by itself first"
            ) from None
        return program
    finally:
        sys.argv, sys.path[:] = former


def trace_model(arguments: argparse.Namespace) -> Program:
    """One training step of a small network on data that `wengert train` knows."""
    import wengert
    from wengert import data
    from wengert.study import StudyError, trace

    config = {**DEFAULTS, "data": arguments.data, "layers": arguments.layers}
    config |= {"width": arguments.width, "depth": arguments.depth}
    config |= {"model": arguments.model or "mlp", "encode": arguments.encode or []}
    dataset = data.load(
        config["data"], fraction=TEST_FRACTION, seed=config["seed"], encoders=encoders_of(config)
    )
    config |= {"features": dataset.features, "outputs": dataset.outputs, "image": dataset.image}
    if config["model"] == "convnet" and dataset.image is None:
        raise StudyError(f"study: {config['data']} holds no images, which --model convnet needs")
    standardizer = scaler_of(dataset, config)
    config["loss"] = "mse" if dataset.classes is None else "cross_entropy"
    config["lr"] = LEARNING_RATES[config["optimizer"]]
    wengert.manual_seed(config["seed"])
    model = build_model(config)
    optimizer = build_optimizer(model, config)
    loss_fn = build_loss(config["loss"])
    batches = data.Batches(
        shaped(dataset.parts.x_train, config), dataset.parts.y_train, arguments.batch, seed=0,
        dtype=config["dtype"], transform=standardizer,
    )  # fmt: skip
    x, y = next(iter(batches))

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        prediction = model(x)
        loss = loss_fn(prediction, y)
        loss.backward()
        optimizer.step()
        return loss

    return trace(step)(x, y)


def _page(program: Program, path: str) -> Path:
    """The page; over the steps that were kept, where their lists are alike."""
    ops = [line.op for line in program.lines]
    alike = [p for p in program.earlier if [line.op for line in p.lines] == ops]
    if len(alike) < len(program.earlier):
        skipped = len(program.earlier) - len(alike)
        print(f"left out {skipped} kept steps whose list differs from the last step's")
    first, *others = [*alike, program]
    page: Path = first.to_html(path, others)
    return page


def study_command(arguments: argparse.Namespace) -> int:
    """wengert study"""
    if arguments.drill is not None:
        from wengert.study.drills import run_drill

        return run_drill(arguments.drill)
    from wengert.io import write_text
    from wengert.study import StudyError, load
    from wengert.study.terminal import Session
    from wengert.train.report import plain

    if arguments.arguments and not arguments.script:
        raise StudyError(f"study: unrecognized arguments: {' '.join(arguments.arguments)}")
    if arguments.script and arguments.model:
        raise StudyError("study: give a script or --model, not both")
    if arguments.load:
        program = load(arguments.load)
    elif arguments.script:
        program = trace_script(
            Path(arguments.script), arguments.arguments, arguments.step, arguments.every
        )
    else:
        program = trace_model(arguments)
    for note in program.notes:
        if note.startswith(f"step {arguments.step} was asked for") and not arguments.list:
            print(f"wengert study: {note}", file=sys.stderr)
    shown = False
    for wanted, text in (
        (arguments.list, program.listing),
        (arguments.costs, program.costs),
        (arguments.check, lambda: str(program.check())),
    ):
        if wanted:
            print(plain(text(), keep="\n"))
            shown = True
    for path, write in (
        (arguments.html, lambda p: _page(program, p)),
        (arguments.json, program.to_json),
        (arguments.numpy, program.to_numpy),
        (arguments.dot, lambda p: write_text(p, program.to_dot())),
    ):
        if path:
            write(path)
            print(f"wrote {plain(path)} ({Path(path).stat().st_size:,} bytes)")
            shown = True
    if not shown:
        if program.core is None:
            print(plain(str(program), keep="\n"))
        else:
            Session(program).run()
    return 0
