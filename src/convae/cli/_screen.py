"""What the commands show while they work: progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from convae.cli._notes import show_notes
from convae.cli._streams import is_terminal
from convae.core.names import printable


class Screen(Console):
    """A console for text that may hold names of people's files and classes: nothing in them moves or colours it."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text that is about to be printed, also in the cells of tables."""
        return super().render_str(printable(text), **options)


# A pipe has no width; tables need one. What is printed may hold names that people chose: no brackets mean anything.
results = Screen(highlight=False, markup=False, width=None if is_terminal(sys.stdout) else 120)
notes = Screen(stderr=True, highlight=False, markup=False)
BESIDE = {"split", "step", "epoch", "total", "total_at_end", "lr", "gradient_norm", "clipped", "skipped"} | {
    "loss_scale",
    "codes_used",
    "active_units",
    "kl_per_unit",
}
"""What a row of the log holds beside the terms."""
_BESIDE_FIGURES = 55
"""Characters that the bar of a training takes beside its figures."""
PATIENCE = 2.0
"""Seconds of work before a bar is shown."""


class WorkBar:
    """A bar for work that tells `done, total, what`; it appears only when the work takes longer than two seconds."""

    def __init__(self) -> None:
        self._bar = _bar(TextColumn("{task.fields[rate]:>12}"))
        self._task: TaskID | None = None
        self._what = ""
        self._began = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        """`done` of `total` units of `what` are finished."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began = what, now
            if self._task is not None:
                self._bar.remove_task(self._task)
                self._task = None
        if self._task is None:
            if now - self._began < PATIENCE:
                return
            show_notes()
            self._bar.start()
            self._task = self._bar.add_task(what, total=total, rate="")
        seconds = now - self._began
        self._bar.update(self._task, completed=done, total=total, rate=f"{done / seconds:,.0f}/s" if seconds else "")

    def close(self) -> None:
        """Takes the bar away, until there is more work."""
        if self._task is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
            self._task, self._what = None, ""


@contextlib.contextmanager
def work_bar() -> Iterator[WorkBar]:
    """A `WorkBar` that goes away at the end of the block."""
    bar = WorkBar()
    try:
        yield bar
    finally:
        bar.close()


def _bar(*more: Any) -> Progress:
    # Where there is little room, the bar gives way, and no number does.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        *more,
        console=notes,
        transient=True,
    )


class TrainingBar:
    """A bar over all steps of a training, with images per second and the newest figures.

    Args:
        before: a bar that goes away when this one comes.
    """

    def __init__(self, before: WorkBar | None = None) -> None:
        self._before = before
        self._bar = _bar(TextColumn("{task.fields[figures]}"))
        self._task: TaskID | None = None
        self._began = time.monotonic()
        self._first = 0
        self._figures = ""

    def begun(self, trainer: Any) -> None:
        """Shows where the training begins, and says what could not be read."""
        if self._before is not None:
            self._before.close()
        split = trainer.experiment.batches.split
        if split.skipped:
            path, reason = split.skipped[0]
            count = len(split.skipped)
            first = f"{path}: {reason}" if count == 1 else f"the first is {path}: {reason}"
            listed = f"all are listed in {split.folder / 'skipped.csv'}"
            notes.print(
                f"{count:,} of the images could not be read and are left out; {first}; {listed}", soft_wrap=True
            )
        self._first, self._began = trainer.state.step, time.monotonic()
        self._bar.start()
        self._task = self._bar.add_task("training", total=trainer.total_steps, completed=self._first, figures="")

    def stepped(self, trainer: Any) -> None:
        """Moves the bar."""
        if self._task is None:
            return
        step, seconds = trainer.state.step, time.monotonic() - self._began
        rate = (step - self._first) * trainer.experiment.batches.batch_size / seconds
        figures = f"{rate:,.0f} images/s  {self._figures}"
        if len(figures) > notes.width - _BESIDE_FIGURES:
            figures = figures.partition(" (")[0]
        self._bar.update(self._task, completed=step, total=trainer.total_steps, figures=figures)

    def logged(self, row: dict[str, Any]) -> None:
        """Keeps the newest training figures; prints a line for each validation."""
        figures = figures_text(row)
        if row["split"] == "train":
            self._figures = figures
        else:
            notes.print(f"epoch {row['epoch']:g}: validation {figures}")

    def ended(self, trainer: Any) -> None:
        """Takes the bar away."""
        self._bar.stop()
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        seconds = time.monotonic() - self._began
        done = trainer.state.step - self._first
        if done:
            rate = done * trainer.experiment.batches.batch_size / seconds
            waited = trainer.experiment.batches.waited / seconds
            text = f"{done:,} steps in {duration(seconds)}, {rate:,.0f} images/s with everything"
            notes.print(f"{text}, {waited:.1%} of the time waiting for data")


def figures_text(row: dict[str, Any]) -> str:
    """The figures of a row: the total in nats and what it is made of."""
    parts = ", ".join(f"{name} {value:.2f}" for name, value in row.items() if name not in BESIDE)
    return f"{row['total']:.2f} nats ({parts})"


def duration(seconds: float) -> str:
    """A time as people say it: `48 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def wrote(path: Path, show: bool = False) -> None:
    """Prints the notes that wait and the path of what was written, and opens it on request."""
    show_notes()
    results.print(str(path), soft_wrap=True)
    if show:
        typer.launch(str(path))
