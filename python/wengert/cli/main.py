"""The `wengert` command: train, predict, embed, study, info.

Arguments are checked while they are parsed, before anything heavy is imported. Whatever the user
can set right ends in one line on stderr and exit code 2; training that diverged in exit code 1;
Ctrl-C, after saving, in 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from . import embed, info, predict, study, train
from .errors import UsageError, complain, told


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and no page of usage above it."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import wengert

        print(f"wengert {wengert.__version__}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(prog="wengert", description="Train and use small neural networks.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="train | predict | embed | study | info"
    )
    for command in (train, predict, embed, study, info):
        command.add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    _open_streams()
    try:
        return _run(argv)
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # it was told; Python would tell it again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str] | None) -> int:
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    command: str = arguments.command
    if command == "study":
        arguments.arguments = [text for text in rest if text != "--"]  # the script's own
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return _ended(code)
    except KeyboardInterrupt:
        print(f"wengert {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `wengert predict ... | head`: the reader has seen enough
        return 0
    except (UsageError, ImportError, OSError, ValueError, TypeError, MemoryError) as error:
        if os.environ.get("WENGERT_DEBUG"):
            raise
        complain(command, told(error).removeprefix(f"{command}: "))
        return _ended(2)
    except (LookupError, AttributeError, ArithmeticError, RecursionError, AssertionError) as error:
        # Of a file whose checksums hold and whose contents do not; else it is a fault of ours.
        given = [getattr(arguments, name, None) for name in ("checkpoint", "resume", "load")]
        file = next((name for name in given if name is not None), None)
        if file is None or os.environ.get("WENGERT_DEBUG"):
            raise
        cause = f"{type(error).__name__}: {told(error)}"
        complain(command, f"{file} was altered, or written by another version ({cause})")
        return _ended(2)


def _ended(code: int) -> int:
    """The code; one of an error ends all ranks, which would wait for this one."""
    parallel = sys.modules.get("wengert.parallel.communicator")
    comm = parallel._world if parallel is not None else None
    if code in (1, 2) and comm is not None and comm.size > 1:
        comm.abort(f"exit code {code}")
    return code


def _open_streams() -> None:
    """Standard streams that are there (for a closed one, the null device), and that print any
    character, as an escape where the terminal lacks it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
