"""The checkpoint that a run goes on from, after it was stopped or after skipped steps, and whether it fits."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from convae.core.errors import ArtifactError, ConfigError, TrainingError
from convae.core.names import short_repr
from convae.training.loop.checkpoint import (
    Checkpoint,
    is_planned,
    list_checkpoints,
    read_checkpoint,
    read_together,
    remove_checkpoint,
)
from convae.training.loop.engine import Engine
from convae.training.loop.health import ABSURD, REMEDY, SkippedSteps, locate
from convae.training.loop.progress import Progress
from convae.training.loop.task import Task
from convae.training.recipe.plan import Plan
from convae.training.recipe.schema import Recipe
from convae.training.run_folder import RunFolder

MAY_CHANGE = {
    "name",
    "data.source",
    "data.dir",
    "data.download",
    "start.model",
    "start.importer",
    "start.key",
    *(
        f"training.{name}"
        for name in (
            "accumulate",
            "checkpointing",
            "device",
            "log_every",
            "checkpoint_every",
            "keep",
            "minutes",
            "pictures_every",
            "tensorboard",
            "shard",
        )
    ),
}
"""Options of a recipe that a run may be continued with another value of: what it computes stays the same."""


def check_recipe(recipe: Recipe, before: Mapping[str, Any], folder: Path) -> None:
    """Checks that a run's recipe is the one that its checkpoint was written under.

    Args:
        recipe: in the run folder now.
        before: the one of the checkpoint.
        folder: of the run.

    Raises:
        ConfigError: it is another one; the message names the first option.
    """
    for key, now, then in _differences(recipe.model_dump(mode="json"), before, ""):
        if key not in MAY_CHANGE:
            raise ConfigError(
                f"{folder / 'recipe.yaml'}: {key} is {short_repr(now)}, but the run was trained with "
                f"{short_repr(then)}. Set it to {short_repr(then)} again, or train on in a new run with "
                f"`convae train --start {folder} {key}={now if isinstance(now, int | float | str) else '…'}`"
            )


def _differences(now: Any, then: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """What two recipes say differently: the option and both of its values."""
    if key not in MAY_CHANGE and isinstance(now, Mapping) and isinstance(then, Mapping):
        for name in dict.fromkeys([*now, *then]):
            yield from _differences(now.get(name), then.get(name), f"{key}.{name}" if key else name)
    elif now != then:
        yield key, now, then


def check_progress(progress: Progress, plan: Plan, where: Path) -> None:
    """Checks that a run's state is one that its plan leads to.

    Args:
        progress: of a checkpoint.
        plan: of the recipe and of the data as they are now.
        where: the checkpoint lies.

    Raises:
        ConfigError: the run would never end, or has stages that the plan does not have.
    """
    stages, stage_starts = plan.stages, progress.stage_starts
    if len(stage_starts) > len(stages):
        raise ConfigError(f"{where}: is in stage {len(stage_starts)}, but the recipe has {len(stages)}")
    for number, (begin, end) in enumerate(zip(stage_starts, [*stage_starts[1:], progress.step], strict=True)):
        longest = stages[number].steps
        # A stage that is over is followed by the next, unless it was the last.
        is_over = number < len(stage_starts) - 1 or (progress.finished and number == len(stages) - 1)
        if not 0 <= end - begin < longest + is_over:
            raise ConfigError(
                f"{where}: has done {end - begin} steps of {stages[number].name}, which has {longest}: the recipe or "
                "the number of images is not that of the run"
            )


def is_finished(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether the newest checkpoint of a run is that of its end.

    Raises:
        ConfigError: the recipe of the run was changed.
    """
    for path in reversed(list_checkpoints(folder.checkpoints)):
        with contextlib.suppress(ArtifactError):
            checkpoint = read_checkpoint(path, with_tensors=False)
            check_recipe(recipe, checkpoint.recipe, folder.path)
            return checkpoint.progress.finished
    return False


def last_good(folder: RunFolder, plan: Plan, note: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that the run can go on from; None where none was written yet.

    Raises:
        ArtifactError: there are some, but none of them can be used.
    """
    size = folder.metrics.stat().st_size if folder.metrics.exists() else 0
    faults: list[str] = []
    for path in reversed(list_checkpoints(folder.checkpoints)):
        try:
            checkpoint = read_checkpoint(path)
            progress = checkpoint.progress
            if size < progress.log_bytes:
                raise ArtifactError(f"{folder.metrics}: shorter than when the checkpoint {path.name} was written")
        except ArtifactError as error:
            faults.append(str(error))
            continue
        if faults:
            note(f"{'; '.join(faults)}: continuing from step {progress.step} instead")
        check_progress(progress, plan, path)
        return checkpoint
    if faults:
        raise ArtifactError(f"{'; '.join(faults)}: no checkpoint is left to go on from; begin anew with the recipe")
    return None


MOST_ROLLBACKS = 6
"""After more of them the training gives up: the learning rate is a sixty-fourth by then."""


class Recovery:
    """What is done about steps of a run that were skipped because something in them was not finite.

    Args:
        task: what is trained.
        folder: of the run.
    """

    def __init__(self, task: Task, folder: RunFolder) -> None:
        self._task = task
        self._folder = folder

    def diagnose(self, progress: Progress, skips: SkippedSteps, engine: Engine) -> str:
        """A sentence on the first step of the row that was skipped: where its values stop being finite."""
        task, step = self._task, skips.first
        epoch, start = divmod(step, task.batches.steps_per_epoch)
        batch = next(iter(task.batches.iterate(epoch, start, task.device, task.plan.augmentation(epoch))))
        starts = progress.stage_starts
        clocks = task.plan.clocks(starts, max(step, starts[-1]))
        largest = skips.limit(math.prod(task.batches.shape), ABSURD)
        reasons = [
            locate(each, batch, clocks, largest if each is engine.steps[0] else math.inf) for each in engine.steps
        ]
        found = task.ranks.gather(next(filter(None, reasons), None))
        reason = next(filter(None, found), "its values were not finite, but are when it is run again")
        return f"step {step} was skipped: {reason}"

    def checkpoint(self, progress: Progress, reason: str) -> Checkpoint | None:
        """The last checkpoint before what went wrong; None for the beginning.

        Args:
            progress: how far the run is.
            reason: why it goes back.

        Raises:
            TrainingError: going back was tried too often.
        """
        if progress.lr_halvings >= MOST_ROLLBACKS:
            hint = ", or set training.precision: float32" if self._task.options.precision == "fp16" else ""
            raise TrainingError(
                f"{reason}, and going back {MOST_ROLLBACKS} times to half the learning rate did not help: "
                f"{REMEDY}{hint}. The notes in {self._folder.metrics} say where it began"
            )
        return read_together(self._task.ranks, self._before_skips)

    def _before_skips(self) -> Checkpoint | None:
        """The last checkpoint before a row of skipped steps; later ones are removed, since the log will not reach them.

        Those that were written because somebody stopped the run are passed over, so that it makes no difference.
        """
        for path in reversed(list_checkpoints(self._folder.checkpoints)):
            with contextlib.suppress(ArtifactError):
                checkpoint = read_checkpoint(path)
                if is_planned(path) and not checkpoint.skips_in_a_row:
                    return checkpoint
            remove_checkpoint(path)
        return None
