"""The stepper as a widget: the page in a notebook, and a stepper in Python at the same line.

    w = program.widget(); w              the page, to click in
    w.position                           the line where it stands; w.position = 12 goes there
    w.stepper.array("h")                 what the memory holds there
    w.stepper.differences()              what the edits that were made in the page have changed

It is an anywidget, for JupyterLab, VS Code and others: pip install "wengert[notebook]".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .list import StudyError, WengertList
from .page import INLINE, INLINE_CELLS, text
from .stepper import Stepper

if TYPE_CHECKING:

    class StepperWidget(Protocol):
        """What `program.widget()` gives, a widget of Jupyter."""

        program: WengertList
        stepper: Stepper
        position: int
        edits: list[list[float]]  # [line, value, element, number], as they were made
        page: str
        height: int
        close: Callable[[], None]


def widget(program: WengertList, height: int = 600) -> StepperWidget:
    """See this module's text; `height` in pixels.

    ImportError without anywidget; StudyError where the list is empty, too long for a page, or read
    from a file.
    """
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError(
            f'program.widget needs anywidget: pip install "wengert[notebook]" ({error})'
        ) from None
    if len(program) > INLINE:
        raise StudyError(
            f"study: {len(program):,} lines are too many for a widget, which shows up to "
            f"{INLINE:,}; program.to_html(path) writes a page"
        )
    program.live()

    class StepperWidget(anywidget.AnyWidget):  # type: ignore[misc]
        _esm = (Path(__file__).parent / "widget.js").read_text(encoding="utf-8")
        page = traitlets.Unicode().tag(sync=True)
        height = traitlets.Int().tag(sync=True)
        position = traitlets.Int(0, min=0, max=len(program)).tag(sync=True)
        edits = traitlets.List().tag(sync=True)

        def __init__(self) -> None:
            self.program, self.stepper = program, Stepper(program)
            super().__init__(page=text([program], cells=INLINE_CELLS), height=height)

        @traitlets.observe("position")  # type: ignore[untyped-decorator]
        def _moved(self, change: Any) -> None:
            self.stepper.to(change.new)

        @traitlets.observe("edits")  # type: ignore[untyped-decorator]
        def _edited(self, change: Any) -> None:
            self.stepper.forget_edits()
            for line, value, element, number in change.new:
                self.stepper.to(int(line))
                place = np.unravel_index(int(element), program.values[int(value)].shape)
                self.stepper.edit(int(value), number, at=tuple(int(i) for i in place))
            self.stepper.to(self.position)

    made: Any = StepperWidget()
    return made  # type: ignore[no-any-return]
