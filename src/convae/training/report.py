"""What a training shows of itself: a bar where somebody watches, lines with times in a log, and how it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.progress import TaskID, TextColumn

from convae.core import console
from convae.core.console import WorkBar, duration, has_viewer, progress_bar
from convae.core.names import shape_text
from convae.model.network import count
from convae.training.trainer import Observer

if TYPE_CHECKING:
    from convae.training.run import Run
    from convae.training.trainer import Trainer

_NOT_TERMS = {"split", "step", "epoch", "total", "total_at_end", "lr", "gradient_norm", "clipped", "skipped"} | {
    "loss_scale",
    "codes_used",
    "active_units",
    "kl_per_unit",
}
"""What a row of the log holds beside the terms."""
_BESIDE_METRICS = 60
"""Characters that the bar of a training takes beside its metrics."""


class TrainingReport(Observer):
    """Shows on stderr what is trained, how far it is, each validation, and how it ended.

    A bar at a terminal and in a notebook; elsewhere a line every half minute, with the time that is left.

    Args:
        before: progress of the preparation, which ends when the training begins.
    """

    def __init__(self, before: WorkBar | None = None) -> None:
        self._before = before
        self._bar = progress_bar(TextColumn("{task.fields[metrics]}"))
        self._task: TaskID | None = None
        self._began = self._printed = time.monotonic()
        self._first = 0
        self._metrics = ""
        self._trainer: Trainer | None = None

    def begun(self, trainer: Trainer) -> None:
        """Shows what is trained, on what, where, and for how long."""
        if self._before is not None:
            self._before.close()
        self._trainer, self._metrics = trainer, ""
        made = trainer.experiment
        split, model, options = made.batches.split, made.model, made.recipe.training
        held_out = f", {len(made.validation):,} for validation" if made.validation is not None else ""
        ranks = f" × {made.ranks.count} processes" if made.ranks.count > 1 else ""
        self._say(f"run {trainer.folder.path}")
        self._say(f"{len(split):,} training images {shape_text(split.shape)}{held_out}")
        self._say(
            f"model {model.name}: {_millions(count(model))} parameters, latent {shape_text(model.latent_shape)}; "
            f"{made.device.type}{ranks}, {options.precision}; "
            f"{made.batches.steps_per_epoch:,} steps per epoch, {trainer.total_steps:,} steps"
        )
        if split.skipped:
            path, reason = split.skipped[0]
            self._say(
                f"{len(split.skipped):,} images could not be read and are left out, such as {path}: {reason} "
                f"(all are listed in {split.folder / 'skipped.csv'})"
            )
        self._first, self._began = trainer.state.step, time.monotonic()
        self._printed = self._began
        if has_viewer():
            self._bar.start()
            self._task = self._bar.add_task("training", total=trainer.total_steps, completed=self._first, metrics="")

    def stepped(self, trainer: Trainer) -> None:
        """Moves the bar, or prints a line now and then."""
        step, now = trainer.state.step, time.monotonic()
        if self._task is not None:
            metrics = f"{self._rate(trainer):,.0f} images/s  {self._metrics}"
            if len(metrics) > console.notes.width - _BESIDE_METRICS:
                metrics = metrics.partition(" (")[0]
            where = self._epoch(step)
            self._bar.update(self._task, completed=step, total=trainer.total_steps, metrics=metrics, description=where)
        elif now - self._printed >= console.INTERVAL:
            self._printed = now
            metrics = self._metrics.partition(" (")[0]
            told = [f"step {step:,} of {trainer.total_steps:,} ({self._epoch(step)})", metrics]
            self._say(", ".join(filter(None, [*told, f"{self._rate(trainer):,.0f} images/s", self._left(trainer)])))

    def logged(self, row: dict[str, Any]) -> None:
        """Keeps the newest training metrics; prints a line for each validation."""
        metrics = metrics_text(row)
        if row["split"] == "train":
            self._metrics = metrics
            return
        trainer = self._trainer
        left = "" if trainer is None or self._task is not None else f"; {self._left(trainer)}"
        epoch = row["epoch"]
        is_whole = abs(epoch - round(epoch)) < 1e-4
        where = f"epoch {epoch:.0f}{self._of_epochs()}" if is_whole else f"step {row['step']:,} (epoch {epoch:.2f})"
        self._say(f"{where}: validation {metrics}{left}")

    def noted(self, sentence: str) -> None:
        """Prints it above the bar."""
        self._say(sentence, style="yellow")

    def ended(self, trainer: Trainer) -> None:
        """Takes the bar away, and says how long it took."""
        if self._task is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
            self._task = None
        seconds = time.monotonic() - self._began
        if done := trainer.state.step - self._first:
            waited = trainer.experiment.batches.waited / seconds
            self._say(
                f"{done:,} steps in {duration(seconds)}: {self._rate(trainer):,.0f} images/s, validation and pictures "
                f"included; {waited:.1%} of the time waiting for data"
            )

    def _say(self, sentence: str, style: str | None = None) -> None:
        console.notes.print(sentence, soft_wrap=True, style=style)

    def _rate(self, trainer: Trainer) -> float:
        """Images per second since the training began here."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        return (trainer.state.step - self._first) * trainer.experiment.batches.batch_size / seconds

    def _left(self, trainer: Trainer) -> str:
        """The time that is left, if the steps to come take as long as those before."""
        done, seconds = trainer.state.step - self._first, time.monotonic() - self._began
        rest = trainer.total_steps - trainer.state.step
        return f"{duration(seconds / done * rest)} left" if done and rest else f"after {duration(seconds)}"

    def _epoch(self, step: int) -> str:
        """The running epoch, of how many."""
        per_epoch = self._per_epoch()
        return f"epoch {max(1, -(-step // per_epoch))}{self._of_epochs()}"

    def _of_epochs(self) -> str:
        """How many epochs there are in all; nothing where the training is no whole number of them."""
        if self._trainer is None:
            return ""
        total = self._trainer.total_steps / self._per_epoch()
        return f" of {total:.0f}" if total == round(total) else ""

    def _per_epoch(self) -> int:
        return 1 if self._trainer is None else self._trainer.experiment.batches.steps_per_epoch


def report_end(run: Run) -> None:
    """Says where the best model and the pictures are, and what to try next."""
    if run.best and run.best_step is not None:
        rows = [row for row in run.metrics if row["split"] == "validation" and row["step"] == run.best_step]
        epoch = f"epoch {rows[0]['epoch']:.4g}" if rows else f"step {run.best_step:,}"
        what = f"best model: {epoch}, {run.best['total']:.2f} nats per validation image"
    else:
        what = "model"
    for line in (
        f"{what}, in {run.path / 'model'}",
        f"pictures: {run.pictures}",
        f"try: convae sample {run.path} --out samples, or convae evaluate {run.path}",
    ):
        console.notes.print(line, soft_wrap=True)


def metrics_text(row: dict[str, Any]) -> str:
    """The metrics of a row: the total in nats and what it is made of."""
    parts = ", ".join(f"{name} {value:.2f}" for name, value in row.items() if name not in _NOT_TERMS)
    return f"{row['total']:.2f} nats ({parts})"


def _millions(number: int) -> str:
    """A number of parameters, short."""
    return f"{number / 1e6:.1f} M" if number >= 1_000_000 else f"{number:,}"
