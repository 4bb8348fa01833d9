"""What a run writes as it goes: rows of metrics, notes, timings, curves, pictures, and TensorBoard, an extra."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from convae.core.errors import ConfigError, DataError
from convae.core.files import append, replacing, sync, writing_errors
from convae.pictures.save import save
from convae.training.loop.progress import Progress
from convae.training.loop.task import Task
from convae.training.recipe.plan import Plan
from convae.training.run_folder import RunFolder

Row = dict[str, Any]
NOTE = "note"
"""The `split` of a row that holds a sentence in the place of figures."""


class RunLog:
    """The log of a run, row by row.

    Args:
        folder: of the run.
        steps_per_epoch: batches in an epoch.
        writes: whether it is this process that writes it.
    """

    def __init__(self, folder: RunFolder, steps_per_epoch: int, writes: bool) -> None:
        self._folder = folder
        self._writes = writes
        self._per_epoch = steps_per_epoch

    def sync(self) -> int:
        """Sees that the log so far is on the disk, and gives its bytes."""
        with writing_errors(self._folder.metrics):
            sync(self._folder.metrics)
            return self._folder.metrics.stat().st_size

    def write(self, split: str, step: int, content: Row) -> Row:
        """A row; figures are per image, in their terms' units, without weights."""
        row: Row = {"split": split, "step": step, "epoch": round(step / self._per_epoch, 6), **content}
        self._append(self._folder.metrics, row)
        return row

    def time(self, epoch: int, steps: int, images: int, seconds: float, waited: float) -> None:
        """How long the steps of an epoch took, and for how much of that they waited for their batches."""
        row = {"epoch": epoch + 1, "steps": steps, "seconds": round(seconds, 3)}
        rates = {"images_per_second": round(images / seconds, 1), "waiting_for_data": round(waited / seconds, 4)}
        self._append(self._folder.timings, {**row, **rates})

    def tabulate(self) -> None:
        """The rows of figures once more, as a table that spreadsheets read; lists are left out."""
        # Twice through the log, for the columns and for the rows: it may be longer than memory.
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
        """The rows that are not notes, without lists."""
        for row, _ in self._folder.read_rows():
            if row["split"] != NOTE:
                yield {name: value for name, value in row.items() if not isinstance(value, list)}

    def _append(self, path: Path, row: Row) -> None:
        if self._writes:
            if not path.exists():
                self._folder.check()
            append(path, json.dumps(row) + "\n")


WHERE = ("split", "step", "epoch")
"""What a row says of itself; the rest are figures."""


def summary_writer() -> Any:
    """TensorBoard's class for writing.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "training.tensorboard: TensorBoard is not installed; get it with: pip install 'convae[tensorboard]'"
        ) from error
    return SummaryWriter


class TensorBoard:
    """Writes rows of figures as TensorBoard's scalars, such as `validation/kl`.

    Args:
        folder: where its event files go.
        step: of the state that the run goes on from; what was written after it is hidden.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = summary_writer()(str(folder), purge_step=step + 1)

    def write(self, row: Row) -> None:
        """The numbers of a row."""
        for name, value in row.items():
            if name not in WHERE and isinstance(value, int | float):
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def close(self) -> None:
        """Writes what is still held back."""
        self._writer.close()


MOST_POINTS = 2000
"""Points of a line, beyond which neighbors become their mean."""
Points = tuple[list[float], list[float]]


class Line:
    """A line of at most `MOST_POINTS` points: each is the mean of as many rows of the log as all others."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._rows = 1
        self._open: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        """One more row."""
        self._open.append((x, y))
        if len(self._open) < self._rows:
            return
        self._points.append(_mean(self._open))
        self._open = []
        if len(self._points) == MOST_POINTS:
            self._points = [_mean(self._points[at : at + 2]) for at in range(0, MOST_POINTS, 2)]
            self._rows *= 2

    def points(self) -> Points:
        """Its x and y."""
        points = [*self._points, *([_mean(self._open)] if self._open else [])]
        return [x for x, _ in points], [y for _, y in points]


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


class Curves:
    """Draws the log of metrics, of which each call reads what is new.

    Args:
        folder: of the run.
        plan: its stages and the units of its terms.
        title: of the run.
    """

    def __init__(self, folder: RunFolder, plan: Plan, title: str) -> None:
        self._folder = folder
        self._plan = plan
        self._title = title
        self._units = {"total": "nats per image"}
        self._units.update({name: f"{unit} per image" for name, unit in plan.units().items()})
        self.forget()

    def forget(self) -> None:
        """Reads the log from its beginning again: it was shortened."""
        self._read = 0
        self._lines: dict[str, dict[str, Line]] = {name: {} for name in self._units}

    def draw(self, progress: Progress) -> Figure | None:
        """The metrics of the whole run so far; None where the log holds none."""
        # Here, since matplotlib takes half a second to import, which the first step need not wait for.
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
    """Writes the pictures of a task and the curves into the run folder.

    Args:
        folder: of the run.
        task: what is trained.
    """

    def __init__(self, folder: RunFolder, task: Task) -> None:
        self._folder = folder
        self._every = task.options.pictures_every
        self.curves = Curves(folder, task.plan, task.title)

    def save(self, shown: Task, progress: Progress, final: bool) -> str | None:
        """Writes the pictures of an epoch's end, if it is their turn.

        Args:
            shown: with the weights to show.
            progress: of the training.
            final: whether a stage is over; then it always is their turn, unless there are to be none.

        Returns:
            Why they could not be drawn, if that is so: a model that diverged gives no images.
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
