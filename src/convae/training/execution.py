"""Running a task in the processes of a launch, with its progress shown, and the status of its run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
import torch.utils.deterministic as determinism

from convae.core.console import WorkBar, has_viewer
from convae.core.names import count_text
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.core.trust import trust_options, trusted_packages
from convae.data import DataSet
from convae.data.splits.given import GivenData
from convae.data.splits.snapshot import Snapshot
from convae.model.artifact import save
from convae.model.vae import VAE
from convae.training.distributed import Ranks
from convae.training.launch import connect_ranks, current_launch, was_restarted
from convae.training.loop.checkpoint import Checkpoint
from convae.training.loop.counters import Counters
from convae.training.loop.log import RunLog
from convae.training.loop.recovery import last_good
from convae.training.loop.task import Task
from convae.training.loop.trainer import Callback, Trainer
from convae.training.recipe.reading import write_recipe
from convae.training.recipe.schema import PriorRecipe, Recipe
from convae.training.report import TrainingReport
from convae.training.run_folder import RUNS, RunFolder, free_path, taken_paths

_RecipeT = TypeVar("_RecipeT", Recipe, PriorRecipe)


@dataclass(frozen=True)
class Execution:
    """The processes of a training, and the callbacks of the main one.

    Attributes:
        ranks: the processes.
        callback: callback of the training.
        progress: called during the preparation of the data.
    """

    ranks: Ranks
    callback: Callback | None = None
    progress: Progress | None = None

    def say(self, sentence: str) -> None:
        """Passes a message to the callback, in the main process."""
        if self.callback is not None and self.ranks.is_main:
            self.callback.on_message(sentence)

    def read(self, read: Callable[[], _RecipeT], out: str | Path | None) -> tuple[_RecipeT, RunFolder | None]:
        """Reads the recipe of a new run in the main process.

        Args:
            read: reads the recipe.
            out: the run folder; None for one in `runs/`.

        Returns:
            The recipe, and the run to resume: the one that this launch of torchrun has begun already, if its processes
            were restarted.

        Raises:
            OutputError: `out` has files.
        """
        restarted = any(self.ranks.gather(was_restarted()))

        def prepare() -> tuple[_RecipeT, RunFolder | None]:
            recipe, launch, begun = read(), current_launch(), None
            if launch is not None:
                paths = taken_paths(RUNS, recipe.title) if out is None else [local_path(out)]
                begun = next((RunFolder(path) for path in paths if launch.started(path, restarted)), None)
            if begun is None and out is not None:
                RunFolder(local_path(out)).free()
            return recipe, begun

        return self.ranks.broadcast(prepare)

    def new_folder(self, title: str, out: str | Path | None) -> RunFolder:
        """The folder of a new run: `out`, or a free one in `runs/`."""
        return RunFolder(local_path(out) if out is not None else self.ranks.broadcast(partial(free_path, RUNS, title)))

    @contextlib.contextmanager
    def held(self, folder: RunFolder) -> Iterator[None]:
        """Locks a run folder inside the block, in the main process."""
        with contextlib.ExitStack() as stack:
            self.ranks.broadcast(lambda: stack.enter_context(folder.held()))
            yield

    def begin(
        self,
        folder: RunFolder,
        recipe: Recipe | PriorRecipe,
        data_set: DataSet | GivenData | None,
        open_start: Callable[[], VAE | None],
    ) -> None:
        """Writes the first files of a new run, in the main process.

        Args:
            folder: run folder, held.
            recipe: the recipe with every option.
            data_set: the data set, whose digests are recorded.
            open_start: returns the model from which the run starts; None for random weights.
        """

        def write() -> None:
            folder.begin(write_recipe(recipe), recipe.title)
            if isinstance(data_set, DataSet):
                Snapshot.of(data_set.split("all")).write(folder.data)
            if (start := open_start()) is not None:
                save(start, folder.start)
            if (launch := current_launch()) is not None:
                launch.sign(folder.path)

        self.ranks.broadcast(write)


@contextlib.contextmanager
def open_execution(
    callback: Callback | None, progress: Progress | None, quiet: bool, trust: Iterable[str]
) -> Iterator[Execution]:
    """Connects the processes, and shows progress bars by default on a terminal and in notebooks.

    Args:
        callback: callback of the training.
        progress: called during the preparation of the data.
        quiet: no progress bar.
        trust: packages outside convae whose code saved models may use.
    """
    with trusted_packages(trust), connect_ranks() as ranks:
        if quiet or callback is not None or not has_viewer():
            yield Execution(ranks, callback, progress)
            return
        bar = WorkBar()
        try:
            yield Execution(ranks, TrainingReport(bar), progress or bar)
        finally:
            bar.close()


def recover_run(folder: RunFolder, task: Task, callback: Callback | None) -> Checkpoint | None:
    """The checkpoint to continue from, after the files of the run were restored to its step."""
    say = (callback or Callback()).on_message
    checkpoint = last_good(folder, task.plan, say)
    lost = folder.recover(checkpoint.progress.log_bytes if checkpoint else 0)
    if lost is not None:
        say(lost)
    return checkpoint


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
    status = describe_finished(progress, task.plan.total_unit)
    if trainer.stopped:
        status = f"Training was stopped after {progress.step:,} of {count_text(total, 'step')}: "
        status += f"`convae train --resume {folder.path}{trust_options()}` continues."
    if is_main:
        folder.describe(task.title, status)
    return trainer


def describe_finished(progress: Counters, unit: str) -> str:
    """The status of a finished run.

    Args:
        progress: the progress at the end of the run.
        unit: unit of the total.
    """
    status = f"Training is done: {count_text(progress.step, 'step')}."
    if progress.best is None:
        return status
    return (
        f"{status} The best model is that of step {progress.best_step}: {progress.best:.2f} {unit} per validation "
        "image."
    )


def complete_files(folder: RunFolder, title: str, progress: Counters, unit: str) -> None:
    """Writes what a finished run lacks whose process was killed after its last checkpoint.

    Args:
        folder: run folder, held.
        title: title of the run.
        progress: the progress at the end of the run.
        unit: unit of the total.
    """
    status = describe_finished(progress, unit)
    readme = folder.path / "README.md"
    if readme.is_file() and status in readme.read_text(encoding="utf-8"):
        return
    folder.recover(progress.log_bytes)
    RunLog(folder, 1, writes=True).tabulate()
    folder.describe(title, status)


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
