"""Console output during a training: a progress bar, or lines."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from rich.progress import TaskID, TextColumn

from convae.core import console
from convae.core.console import WorkBar, format_duration, has_viewer, progress_bar
from convae.core.names import count_text
from convae.core.processors import OtherProcesses
from convae.training.loop.trainer import Callback, Trainer

_NOT_TERMS = {
    "split",
    "step",
    "epoch",
    "total",
    "total_at_end",
    "lr",
    "gradient_norm",
    "clipped",
    "above_limit",
    "skipped",
    "loss_scale",
    "codes_used",
    "active_units",
    "kl_per_unit",
    "kl_per_latent",
}
"""Keys of a row of the log that are not terms."""
_BESIDE_METRICS = 60
"""Width of the progress bar without its metrics, in characters."""
_FIRST_LINE = 5.0
"""Seconds of training before the first line on progress without a terminal."""
_LONG_WAIT = 0.05
"""Fraction of the time spent waiting for data above which it is reported."""
_OTHERS_AFTER = 10.0
"""Seconds of training after which it is known how many cores other processes use."""
_SHARED = 0.5
"""Number of cores shared with other processes from which it is reported."""


class TrainingReport(Callback):
    """Prints the task, the progress, each validation and the end of a training on stderr.

    A bar on a terminal and in a notebook; elsewhere a line every 30 seconds, with the remaining time.

    Args:
        before: progress of the preparation, which ends when the training begins.
    """

    def __init__(self, before: WorkBar | None = None) -> None:
        self._before = before
        self._bar = progress_bar(TextColumn("{task.fields[metrics]}"))
        self._task: TaskID | None = None
        self._began = time.monotonic()
        self._next_line = 0.0
        self._others: OtherProcesses | None = None
        self._first = 0
        self._metrics = ""
        self._trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer) -> None:
        """Prints model, data, device and length."""
        if self._before is not None:
            self._before.close()
        self._trainer, self._metrics = trainer, ""
        task = trainer.task
        options = task.options
        ranks = f" × {task.ranks.count} processes" if task.ranks.count > 1 else ""
        self._say(f"run {trainer.folder.path}")
        for line in task.summary():
            self._say(line)
        continuing = f"; continuing after step {trainer.progress.step:,}" if trainer.progress.step else ""
        self._say(
            f"{task.device.type}{ranks}, {options.precision}: {count_text(self._epochs(), 'epoch')} of "
            f"{count_text(task.batches.steps_per_epoch, 'step')}, "
            f"{count_text(task.batches.batch_size, 'image')} a step{continuing}"
        )
        self._first, self._began = trainer.progress.step, time.monotonic()
        self._next_line = self._began + _FIRST_LINE
        # One thread waits for no other, and on GPUs it is the device that computes.
        several = task.device.type == "cpu" and torch.get_num_threads() > 1
        self._others = OtherProcesses() if several else None
        if has_viewer():
            self._bar.start()
            self._task = self._bar.add_task("training", total=trainer.total_steps, completed=self._first, metrics="")

    def on_step_end(self, trainer: Trainer) -> None:
        """Updates the bar, or prints a line periodically."""
        step, now = trainer.progress.step, time.monotonic()
        if self._others is not None and now >= self._began + _OTHERS_AFTER:
            self._say_shared(self._others.cores())
            self._others = None
        if self._task is not None:
            metrics = f"{self._rate(trainer):,.0f} images/s  {self._metrics}"
            if len(metrics) > console.notes.width - _BESIDE_METRICS:
                metrics = metrics.partition(" (")[0]
            where = self._epoch(step)
            self._bar.update(self._task, completed=step, total=trainer.total_steps, metrics=metrics, description=where)
        elif now >= self._next_line and trainer.stopped:
            self._next_line = now + console.INTERVAL
            parts = [f"{self._epoch(step)}, step {step:,} of {trainer.total_steps:,}", self._metrics.partition(" (")[0]]
            self._say(", ".join(filter(None, [*parts, f"{self._rate(trainer):,.0f} images/s", self._left(trainer)])))

    def on_log(self, row: dict[str, Any]) -> None:
        """Keeps the newest training metrics; prints a line for each validation."""
        metrics = metrics_text(row, self._unit())
        if row["split"] == "train":
            self._metrics = metrics
            return
        # Next to a bar, which shows the time, a line has 80 columns.
        left = "" if self._trainer is None or self._task is not None else f"; {self._left(self._trainer)}"
        step = row["step"]
        place = f", step {step:,}" if step % self._per_epoch() else ""
        self._say(f"{self._epoch(step)}{place}: validation {metrics}{left}")

    def on_message(self, sentence: str) -> None:
        """Prints a message above the bar."""
        self._say(sentence, style="yellow")

    def on_train_end(self, trainer: Trainer) -> None:
        """Removes the bar, and prints the duration."""
        if self._task is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
            self._task = None
        seconds = time.monotonic() - self._began
        if done := trainer.progress.step - self._first:
            self._say(f"{count_text(done, 'step')} in {format_duration(seconds)}, {self._rate(trainer):,.0f} images/s")
            if (waited := trainer.task.batches.waited / seconds) > _LONG_WAIT:
                self._say(f"{waited:.0%} of the time was spent waiting for data")

    def _say_shared(self, others: float) -> None:
        """Reports that the threads share cores with other processes, which use this many."""
        threads, cores = torch.get_num_threads(), os.cpu_count() or 1
        if threads + others >= cores + _SHARED:
            self.on_message(
                f"other processes use {others:.1f} of {count_text(cores, 'core')}, and {count_text(threads, 'thread')} "
                f"wait for each other. OMP_NUM_THREADS={max(1, round(cores - others))} can be several times faster"
            )

    def _say(self, sentence: str, style: str | None = None) -> None:
        console.notes.print(sentence, soft_wrap=True, style=style)

    def _rate(self, trainer: Trainer) -> float:
        """Images per second since the training began here."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        return (trainer.progress.step - self._first) * trainer.task.batches.batch_size / seconds

    def _left(self, trainer: Trainer) -> str:
        """Elapsed and remaining time, limited by `training.minutes`."""
        done, seconds = trainer.progress.step - self._first, time.monotonic() - self._began
        rest, minutes = trainer.total_steps - trainer.progress.step, trainer.task.options.minutes
        if not done or not rest:
            return f"after {format_duration(seconds)}"
        left = seconds / done * rest
        left = left if minutes is None else max(0.0, min(left, 60 * minutes - seconds))
        return f"after {format_duration(seconds)}, {format_duration(left)} left"

    def _epoch(self, step: int) -> str:
        """Current epoch, number of epochs, and stage, if there are several."""
        trainer = self._trainer
        stage = f"{trainer.stage.name}, " if trainer and len(trainer.task.plan.stages) > 1 else ""
        return f"{stage}epoch {max(1, -(-step // self._per_epoch())):,} of {self._epochs():,}"

    def _unit(self) -> str:
        return "nats" if self._trainer is None else self._trainer.task.plan.total_unit

    def _epochs(self) -> int:
        """Epochs of the training, including a partial last one."""
        return 1 if self._trainer is None else -(-self._trainer.total_steps // self._per_epoch())

    def _per_epoch(self) -> int:
        return 1 if self._trainer is None else self._trainer.task.batches.steps_per_epoch


def metrics_text(row: dict[str, Any], unit: str) -> str:
    """The metrics of a row: total in its unit, and terms."""
    parts = ", ".join(f"{name} {value:.2f}" for name, value in row.items() if name.partition("/")[0] not in _NOT_TERMS)
    return f"{row['total']:.2f} {unit} ({parts})"
