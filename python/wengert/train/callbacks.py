"""Callbacks of `fit`: what they are, and those that write logs.

    class Announce(Callback):
        def on_epoch_end(self, training):
            print(training.epoch, training.metrics["validation_loss"])

    fit(..., callbacks=[Announce(), CSVLogger("log.csv"), TensorBoardLogger("runs/board")])

A callback that raises ends the run with a TrainingError that names it; the checkpoint that was
written then goes on exactly from there.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .. import _explained
from ..io import write_text

if TYPE_CHECKING:
    from wengert import nn
    from wengert.optim import Optimizer

Metrics = dict[str, Any]


@dataclass
class Training:
    """What a callback sees of the run."""

    model: nn.Module
    optimizer: Optimizer
    epochs: int
    run_dir: Path | None
    epoch: int = 1  # the one under way, or just finished; from 1
    step: int = 0  # updates so far
    loss: float | None = None  # of the last step
    metrics: Metrics = field(default_factory=dict)  # of the epoch; on_epoch_end may add numbers
    history: list[Metrics] = field(default_factory=list)  # of all finished epochs
    should_stop: bool = False  # set it, and the epoch under way is the last one


class Callback(Protocol):
    """Five methods, all of which do nothing unless a subclass defines them. A class of another kind
    may have some of them. One with `state_dict()` and `load_state_dict(state)` (of JSON's types) is
    noted in checkpoints, and restored on a resume."""

    def on_train_begin(self, training: Training) -> None:
        """Before the first epoch, or the first one after a resume."""
        return

    def on_epoch_begin(self, training: Training) -> None:
        """Before an epoch, also one that is resumed in its midst."""
        return

    def on_train_batch_end(self, training: Training) -> None:
        """After each step: `step` and `loss` are set."""
        return

    def on_epoch_end(self, training: Training) -> None:
        """After an epoch is judged, before it is noted: `metrics` are all of its numbers."""
        return

    def on_train_end(self, training: Training) -> None:
        """At the end, also of a run that Ctrl-C ended."""
        return


class _FileLogger(Callback):
    """Writes all epochs into a file after each, in place of the former; so a resume leaves neither
    a gap nor an epoch twice."""

    @_explained.explained
    def __init__(self, path: str | os.PathLike[str]) -> None:
        """path: of the file; its directory is made."""
        self.path = Path(path)

    def text(self, history: list[Metrics]) -> str:
        """The file's contents."""
        raise NotImplementedError

    def on_train_begin(self, training: Training) -> None:
        """Write what there is: a path that cannot be written is an error before any training."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, self.text(training.history))
        except OSError as error:
            raise _cannot_write(self, self.path, error) from None

    def on_epoch_end(self, training: Training) -> None:
        """Write it with the epoch."""
        write_text(self.path, self.text([*training.history, training.metrics]))


class CSVLogger(_FileLogger):
    """A row for each epoch, a column for each number: CSVLogger("runs/mine/log.csv")."""

    def text(self, history: list[Metrics]) -> str:
        """The table; empty where an epoch lacks a number."""
        names = list(dict.fromkeys(name for metrics in history for name in metrics))
        made = io.StringIO()
        table = csv.DictWriter(made, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(history)
        return made.getvalue()


class JSONLLogger(_FileLogger):
    """A line of JSON for each epoch; as metrics.jsonl of a run directory."""

    def text(self, history: list[Metrics]) -> str:
        """The lines."""
        return "".join(json.dumps(metrics) + "\n" for metrics in history)


class TensorBoardLogger(Callback):
    """Event files for TensorBoard: the numbers of each epoch, and the loss of each `every`-th step.

        fit(..., callbacks=[TensorBoardLogger("runs/board")])   # tensorboard --logdir runs/board

    Names are those of metrics.jsonl, and "step_loss". The x-axis is the step. After a resume
    TensorBoard drops what came after the step at which it began. Needs TensorBoard:
    pip install "wengert[tensorboard]".
    """

    @_explained.explained
    def __init__(self, directory: str | os.PathLike[str], every: int = 50) -> None:
        """directory: where the event files go."""
        if every < 1:
            raise ValueError(f"TensorBoardLogger: every is {every}; expected at least 1")
        self.directory, self.every = Path(directory), every
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise ImportError(
                f'TensorBoardLogger needs TensorBoard: pip install "wengert[tensorboard]" ({error})'
            ) from None
        self._events, self._summaries, self._open = event_pb2, summary_pb2, EventFileWriter
        self._writer: Any = None

    def on_train_begin(self, training: Training) -> None:
        """Open a file."""
        try:
            self._writer = self._open(str(self.directory))
        except OSError as error:
            raise _cannot_write(self, self.directory, error) from None
        began = self._events.SessionLog(status=self._events.SessionLog.START)
        self._write(training.step + 1, session_log=began)

    def on_train_batch_end(self, training: Training) -> None:
        """Note the loss."""
        if training.step % self.every == 0:
            self._numbers(training.step, {"step_loss": training.loss})

    def on_epoch_end(self, training: Training) -> None:
        """Note the epoch's numbers."""
        numbers = {k: v for k, v in training.metrics.items() if k not in ("epoch", "step")}
        self._numbers(training.step, numbers)
        self._writer.flush()

    def on_train_end(self, training: Training) -> None:
        """Close the file."""
        self._writer.close()

    def _numbers(self, step: int, numbers: dict[str, Any]) -> None:
        values = [
            self._summaries.Summary.Value(tag=name, simple_value=value)
            for name, value in numbers.items()
            if isinstance(value, (int, float))
        ]
        self._write(step, summary=self._summaries.Summary(value=values))

    def _write(self, step: int, **what: Any) -> None:
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=step, **what))


def _cannot_write(logger: object, path: Path, error: OSError) -> OSError:
    text = f"{type(logger).__name__}: cannot write {path}: {error.strerror}; give another path"
    return type(error)(text)
