"""Running a task to the end or to a stop, with its progress shown, and the status of its run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.utils.deterministic as determinism

from convae.core.console import WorkBar, has_viewer
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.core.trust import trust_options
from convae.training.distributed.launch import current_launch
from convae.training.distributed.ranks import Ranks
from convae.training.loop.checkpoint import Checkpoint
from convae.training.loop.task import Task
from convae.training.loop.trainer import Callback, Trainer
from convae.training.report import TrainingReport
from convae.training.run_folder import RUNS, RunFolder, taken_paths


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


@contextlib.contextmanager
def hold_folder(folder: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Locks the folder in the main process."""
    with contextlib.ExitStack() as stack:
        ranks.broadcast(lambda: stack.enter_context(folder.held()))
        yield


def begun_run(title: str, out: str | Path | None, restarted: bool) -> RunFolder | None:
    """The run that this launch of torchrun has started already, if its processes were restarted.

    Args:
        title: of the run.
        out: its folder; None for one in `runs/`.
        restarted: whether torchrun has restarted processes.
    """
    own = current_launch()
    if own is None:
        return None
    paths = taken_paths(RUNS, title) if out is None else [local_path(out)]
    return next((RunFolder(path) for path in paths if own.started(path, restarted)), None)


def sign_folder(folder: RunFolder) -> None:
    """Records the launch of torchrun in the folder of a new run."""
    own = current_launch()
    if own is not None:
        own.sign(folder.path)


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
    with _deterministic(task.device):
        trainer.fit()
    progress, total = trainer.progress, trainer.total_steps
    status = f"Training is done: {total} steps."
    if trainer.stopped:
        status = f"Training was stopped after {progress.step} of {total} steps: "
        status += f"`convae train --resume {folder.path}{trust_options()}` continues."
    elif progress.best is not None:
        status += (
            f" The best model is that of step {progress.best_step}: {progress.best:.2f} {task.plan.total_unit} per "
            "validation image."
        )
    if is_main:
        folder.describe(task.title, status)
    return trainer


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On the CPU, sums do not depend on the timing of threads, such as that of the gradient of `table[indices]`.

    Without it, a run with several threads is not repeated bit for bit. On other devices, the choice is the caller's.
    """
    modes = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = determinism.fill_uninitialized_memory  # type: ignore[attr-defined]
    if device.type != "cpu" or modes[0]:
        yield
        return
    # As `torch.use_deterministic_algorithms`, which imports torch's compiler: a second or two.
    set_mode = torch._C._set_deterministic_algorithms  # noqa: SLF001
    set_mode(True, warn_only=True)
    determinism.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        set_mode(modes[0], warn_only=modes[1])
        determinism.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
