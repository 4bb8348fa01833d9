"""The curves of a run: its metrics as training went on, thinned, so that a long run takes no more memory."""

from __future__ import annotations

from matplotlib.figure import Figure

from convae.core.errors import DataError
from convae.pictures.save import save
from convae.training.loop.progress import Progress
from convae.training.loop.task import Task
from convae.training.recipe.plan import Plan
from convae.training.run_folder.folder import RunFolder

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
