"""Running a task to the end or to a stop, with its progress shown, and the status of its run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from convae.core.console import WorkBar, has_viewer
from convae.core.progress import Progress
from convae.core.trust import trust_options
from convae.training.loop.checkpoint import Checkpoint
from convae.training.loop.task import Task
from convae.training.loop.trainer import Callback, Trainer
from convae.training.report import TrainingReport
from convae.training.run_folder import RunFolder


@contextlib.contextmanager
def show_progress(
    callback: Callback | None, progress: Progress | None, quiet: bool
) -> Iterator[tuple[Callback | None, Progress | None]]:
    """The callbacks of a training: by default progress bars, on a terminal and in notebooks."""
    if quiet or callback is not None or not has_viewer():
        yield callback, progress
        return
    bar = WorkBar()
    try:
        yield TrainingReport(bar), progress or bar
    finally:
        bar.close()


def run_task(
    task: Task,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    callback: Callback | None,
    note: str | None = None,
) -> Trainer:
    """Trains a task, and updates the status in its run folder.

    Args:
        task: the task.
        folder: run folder, held by the main process.
        checkpoint: checkpoint to continue from; None for a new run.
        callback: called in the main process.
        note: a note to log first.

    Returns:
        The trainer after the last step.
    """
    is_main = task.ranks.is_main
    trainer = Trainer(task, folder, checkpoint, callback if callback and is_main else Callback(), note)
    trainer.fit()
    progress, total = trainer.progress, trainer.total_steps
    status = f"Training is done: {total} steps."
    if trainer.stopped:
        status = f"Training was stopped after {progress.step} of {total} steps: "
        status += f"`convae train --resume {folder.path}{trust_options()}` continues."
    elif progress.best is not None:
        status += (
            f" The best model is that of step {progress.best_step}: {progress.best:.2f} nats per validation image."
        )
    if is_main:
        folder.describe(task.title, status)
    return trainer
