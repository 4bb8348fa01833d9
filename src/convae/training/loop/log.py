"""The files that a run writes during training: metrics, notes, timings, curves and pictures."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convae.core.documents import read_mapping
from convae.core.errors import DataError
from convae.core.files import append, replacing, sync, writing_errors
from convae.core.names import one_line
from convae.core.notes import note
from convae.pictures.save import save
from convae.training.loggers.base import LoggedRun, Logger
from convae.training.loop.counters import Counters
from convae.training.loop.task import Task
from convae.training.recipe.plan import Plan
from convae.training.run_folder import LOGGERS_FOLDER, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
NOTE = "note"
"""The `split` of a row with a note instead of metrics."""


class RunLog:
    """The log of a run.

    Args:
        folder: run folder.
        steps_per_epoch: batches in an epoch.
        writes: whether this process writes it.
        loggers: loggers by name, which receive metrics and pictures too.
    """

    def __init__(
        self, folder: RunFolder, steps_per_epoch: int, writes: bool, loggers: Mapping[str, Logger] | None = None
    ) -> None:
        self._folder = folder
        self._writes = writes
        self._per_epoch = steps_per_epoch
        self._loggers = dict(loggers or {}) if writes else {}
        self._sent: dict[str, int] = {}

    def start(self, title: str, step: int) -> None:
        """Starts the loggers, for a run that begins or continues at a step.

        Raises:
            ConfigError: a logger cannot start.
        """
        if not self._loggers:
            return
        recipe = self._folder.path / "recipe.yaml"
        facts = read_mapping(recipe) if recipe.is_file() else {}
        for name, logger in self._loggers.items():
            logger.start(LoggedRun(title, self._folder.path / LOGGERS_FOLDER / name, facts, step))
        self._new_pictures()  # those of before a resume were sent

    def sync(self) -> int:
        """Syncs the log to the disk, and returns its size in bytes."""
        with writing_errors(self._folder.metrics):
            sync(self._folder.metrics)
            return self._folder.metrics.stat().st_size

    def write(self, split: str, step: int, content: Row) -> Row:
        """Writes a row; metrics are per image, in the units of their terms, unweighted."""
        row: Row = {"split": split, "step": step, "epoch": round(step / self._per_epoch, 6), **content}
        self._append(self._folder.metrics, row)
        metrics = {f"{split}/{name}": value for name, value in content.items() if isinstance(value, int | float)}
        if metrics:
            self._send(lambda logger: logger.write(metrics, step))
        return row

    def send_pictures(self, step: int) -> None:
        """Sends new pictures of the run folder to the loggers."""
        pictures = self._new_pictures() if self._loggers else []

        def write_pictures(logger: Logger) -> None:
            for path in pictures:
                logger.write_picture(re.sub(r"^epoch-\d+-", "", path.stem), path, step)

        self._send(write_pictures)

    def close(self) -> None:
        """Closes the loggers."""
        self._send(lambda logger: logger.close())

    def _new_pictures(self) -> list[Path]:
        """The pictures of epochs that are new since the last call."""
        found = {path: path.stat().st_mtime_ns for path in sorted(self._folder.pictures.glob("epoch-*.png"))}
        new = [path for path, time in found.items() if self._sent.get(path.name) != time]
        self._sent = {path.name: time for path, time in found.items()}
        return new

    def _send(self, action: Callable[[Logger], None]) -> None:
        """Calls the loggers; one that fails is not called again, and the training continues."""
        for name, logger in list(self._loggers.items()):
            try:
                action(logger)
            except Exception as error:  # loggers are programs of others
                del self._loggers[name]
                note(f"logger {name}: {one_line(error)[:300]}. It receives nothing more of this run", "yellow")

    def time(self, epoch: int, steps: int, images: int, seconds: float, waited: float) -> None:
        """Writes the duration of an epoch, and the time spent waiting for batches."""
        row = {"epoch": epoch + 1, "steps": steps, "seconds": round(seconds, 3)}
        rates = {"images_per_second": round(images / seconds, 1), "waiting_for_data": round(waited / seconds, 4)}
        self._append(self._folder.timings, {**row, **rates})

    def tabulate(self) -> None:
        """Writes the metrics as a CSV table, without lists."""
        # Two passes over the log, for columns and rows, since it may be larger than memory.
        headings = dict[str, None]()
        for row in self._figures():
            headings.update(dict.fromkeys(row))
        with (
            replacing(self._folder.path / "metrics.csv") as place,
            place.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, list(headings), lineterminator="\n")
            table.writeheader()
            table.writerows(self._figures())

    def _figures(self) -> Iterator[Row]:
        """The rows of metrics, without lists."""
        for row, _ in self._folder.read_rows():
            if row["split"] != NOTE:
                yield {name: value for name, value in row.items() if not isinstance(value, list)}

    def _append(self, path: Path, row: Row) -> None:
        if self._writes:
            if not path.exists():
                self._folder.check()
            append(path, json.dumps(row) + "\n")


MOST_POINTS = 2000
"""Largest number of points of a line; beyond it, neighbors are averaged."""
Points = tuple[list[float], list[float]]


class Line:
    """A line of at most `MOST_POINTS` points, each the mean of an equal number of rows."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._rows = 1
        self._open: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        """Adds a row."""
        self._open.append((x, y))
        if len(self._open) < self._rows:
            return
        self._points.append(_mean(self._open))
        self._open = []
        if len(self._points) == MOST_POINTS:
            self._points = [_mean(self._points[at : at + 2]) for at in range(0, MOST_POINTS, 2)]
            self._rows *= 2

    def points(self) -> Points:
        """The x and y values."""
        points = [*self._points, *([_mean(self._open)] if self._open else [])]
        return [x for x, _ in points], [y for _, y in points]


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


class Curves:
    """Draws the curves of the log; each call reads only new rows.

    Args:
        folder: run folder.
        plan: stages and units of the terms.
        title: title of the run.
        metric_units: units of other metrics to draw, see `Task.metric_units`.
    """

    def __init__(
        self, folder: RunFolder, plan: Plan, title: str, metric_units: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._title = title
        self._units = {"total": "nats per image"}
        self._units.update({name: f"{unit} per image" for name, unit in plan.units().items()})
        self._units.update(metric_units or {})
        self.forget()

    def forget(self) -> None:
        """Restarts at the beginning of the log, after it was truncated."""
        self._read = 0
        self._lines: dict[str, dict[str, Line]] = {name: {} for name in self._units}

    def draw(self, progress: Counters) -> Figure | None:
        """Draws the metrics of the run so far; None without metrics."""
        # A late import, since matplotlib takes half a second.
        from convae.pictures.curves import curves

        for row, end in self._folder.read_rows(self._read):
            self._read = end
            for name in self._units.keys() & row.keys():
                self._lines[name].setdefault(row["split"], Line()).add(row["epoch"], row[name])
        panels: dict[str, dict[str, Points]] = {
            name: {split: lines[split].points() for split in ("train", "validation") if split in lines}
            for name, lines in self._lines.items()
            if lines
        }
        if not panels:
            return None
        plan, stage_starts = self._plan, progress.stage_starts
        names = [stage.name for stage in plan.stages[: len(stage_starts)]]
        begins = [(begin / plan.steps_per_epoch, name) for begin, name in zip(stage_starts, names, strict=True)]
        stages = begins if len(plan.stages) > 1 else []
        return curves(panels, x_label="epoch", units=self._units, title=self._title, stages=stages)


class RunPictures:
    """Saves the pictures of a task and the curves in the run folder.

    Args:
        folder: run folder.
        task: the task.
    """

    def __init__(self, folder: RunFolder, task: Task) -> None:
        self._folder = folder
        self._every = task.options.pictures_every
        self.curves = Curves(folder, task.plan, task.title, task.metric_units)

    def save(self, shown: Task, progress: Counters, final: bool) -> str | None:
        """Saves the pictures after an epoch, at the configured interval.

        Args:
            shown: the task with the weights to show.
            progress: progress of the training.
            final: whether a stage is over; pictures are then saved in any case, unless they are off.

        Returns:
            The reason if they could not be drawn, such as a diverged model.
        """
        epoch = -(-progress.step // shown.batches.steps_per_epoch)
        if not self._every or (epoch % self._every and not final):
            return None
        try:
            shown.draw(self._folder.pictures, epoch)
        except DataError as error:
            return f"the pictures of epoch {epoch} cannot be drawn: {error}"
        finally:
            figure = self.curves.draw(progress)
            if figure is not None:
                save(figure, self._folder.pictures / "curves.png")
        return None
