"""Console output: progress and notes on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from convae.core.names import escape_controls
from convae.core.notes import take_notes

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def is_terminal(stream: Any) -> bool:
    """Whether a stream is an open terminal; None, a stream closed before the program began, is not."""
    try:
        return bool(stream is not None and stream.isatty())
    except (OSError, ValueError):
        return False


class Screen(Console):
    """A console that escapes control characters, because text may contain names of files and classes."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Escapes text before it is printed, in table cells as well."""
        return super().render_str(escape_controls(text), **options)


class Results(Screen):
    """The console of results; pending notes are printed before them, on stderr."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints pending notes, then the results."""
        show_notes()
        super().print(*objects, **options)


# A pipe has no width, but tables need one. No markup, because text may contain names with brackets.
results = Results(highlight=False, markup=False, width=None if is_terminal(sys.stdout) else 120)
notes = Screen(stderr=True, highlight=False, markup=False)
PATIENCE = 2.0
"""Seconds of work before progress is shown."""
INTERVAL = 30.0
"""Seconds between two lines of progress without a terminal."""


def show_notes() -> None:
    """Prints pending notes on stderr."""
    for sentence, style in take_notes():
        notes.print(sentence, soft_wrap=True, style=style)


def has_viewer() -> bool:
    """Whether a bar can be shown: at a terminal, or in a notebook with ipywidgets."""
    return notes.is_terminal or (notes.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


def format_duration(seconds: float) -> str:
    """Formats a duration: `48 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class WorkBar:
    """Progress display of work that takes longer than two seconds.

    A bar on a terminal and in a notebook; elsewhere, such as in a log file, a line every 30 seconds.
    """

    def __init__(self) -> None:
        from rich.progress import TextColumn

        self._bar = progress_bar(TextColumn("{task.fields[rate]:>12}"))
        self._task: TaskID | None = None
        self._what = ""
        self._began = 0.0
        self._next_line = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        """Reports that `done` of `total` units of `what` are finished."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._next_line = what, now, now
            if self._task is not None:
                self._bar.remove_task(self._task)
                self._task = None
        seconds = now - self._began
        if self._task is None and seconds < PATIENCE:
            return
        show_notes()
        if not has_viewer():
            if now >= self._next_line:
                self._next_line = now + INTERVAL
                left = f", {format_duration(seconds * (total - done) / done)} left" if done and seconds else ""
                notes.print(f"{what}: {done:,} of {total:,}{left}", soft_wrap=True)
            return
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(what, total=total, rate="")
        self._bar.update(self._task, completed=done, total=total, rate=f"{done / seconds:,.0f}/s" if seconds else "")

    def close(self) -> None:
        """Removes the bar until the next call."""
        if self._task is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
            self._task, self._what = None, ""


@contextlib.contextmanager
def work_bar() -> Iterator[WorkBar]:
    """A `WorkBar` that is closed at the end of the block."""
    bar = WorkBar()
    try:
        yield bar
    finally:
        bar.close()


def progress_bar(*more: Any) -> Progress:
    """A progress bar on stderr with additional columns after the usual ones."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    # On a narrow terminal the bar shrinks, not the numbers.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        *more,
        console=notes,
        transient=True,
    )
