"""Training a task of your own, such as fitting a prior, with the loop, checkpoints and run folder of VAEs."""

from __future__ import annotations

import json
from pathlib import Path

from convae.core.paths import local_path
from convae.training.loop.recovery import last_good
from convae.training.loop.task import Task
from convae.training.loop.trainer import Callback, Trainer
from convae.training.run_folder import RunFolder


def train_task(task: Task, out: str | Path, *, callback: Callback | None = None) -> Trainer:
    """Trains a task into a run folder, or continues from its last good checkpoint, in one process.

    Args:
        task: the task, with its initial weights.
        out: the run folder: new, empty, or of an interrupted training of the same task.
        callback: called during the training.

    Returns:
        The trainer after the last step; its `stopped` is true if a callback or a signal stopped it.

    Raises:
        OutputError: the folder has other files, is in use, or cannot be written.
        ArtifactError: it has checkpoints, but none of them is usable.
    """
    folder = RunFolder(local_path(out))
    with folder.held():
        if not (folder.path / "recipe.yaml").is_file():
            folder.begin(json.dumps(task.description(), indent=2) + "\n", task.title)
        checkpoint = last_good(folder, task.plan, (callback or Callback()).on_message)
        folder.recover(checkpoint.progress.log_bytes if checkpoint else 0)
        trainer = Trainer(task, folder, checkpoint, callback)
        trainer.fit()
        step, total = trainer.progress.step, trainer.total_steps
        stopped = f"Training was stopped after {step} of {total} steps."
        folder.describe(task.title, stopped if trainer.stopped else f"Training is done: {total} steps.")
        return trainer
