"""Choosing the checkpoint for resuming and for roll-back, and checking that it fits the run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from convae.core.config import Config
from convae.core.errors import ArtifactError, ConfigError, TrainingError
from convae.core.memory import is_out_of_memory
from convae.core.names import count_text, short_repr
from convae.core.trust import trust_options
from convae.training.loop.checkpoint import (
    Checkpoint,
    is_planned,
    list_checkpoints,
    read_checkpoint,
    read_together,
    remove_checkpoint,
)
from convae.training.loop.counters import Counters
from convae.training.loop.engine import Engine
from convae.training.loop.health import ABSURD, REMEDY, SkippedSteps, locate
from convae.training.loop.task import Task
from convae.training.recipe.plan import Plan
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
            "compile",
            "device",
            "log_every",
            "checkpoint_every",
            "keep",
            "minutes",
            "pictures_every",
            "loggers",
            "shard",
        )
    ),
}
"""Options that may change when a run is resumed, as they do not affect the result."""


def check_recipe(recipe: Config, before: Mapping[str, Any], folder: Path) -> None:
    """Checks that the recipe of a run equals that of its checkpoint.

    Options that a checkpoint of an earlier version does not have count as their defaults.

    Args:
        recipe: recipe in the run folder.
        before: recipe of the checkpoint.
        folder: run folder.

    Raises:
        ConfigError: they differ; the message names the first option.
    """
    with contextlib.suppress(ValidationError):
        before = type(recipe).model_validate(before).model_dump(mode="json")
    for key, now, then in _differences(recipe.model_dump(mode="json"), before, ""):
        if key not in MAY_CHANGE:
            raise ConfigError(
                f"{folder / 'recipe.yaml'}: {key} is {short_repr(now)}, but the run was trained with "
                f"{short_repr(then)}. Set it to {short_repr(then)} again, or train on in a new run with "
                f"`convae train --start {folder} {key}={now if isinstance(now, int | float | str) else '…'}`"
            )


def _differences(now: Any, then: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """The differences of two recipes: option and both values."""
    if key not in MAY_CHANGE and isinstance(now, Mapping) and isinstance(then, Mapping):
        for name in dict.fromkeys([*now, *then]):
            yield from _differences(now.get(name), then.get(name), f"{key}.{name}" if key else name)
    elif now != then:
        yield key, now, then


def check_progress(progress: Counters, plan: Plan, where: Path) -> None:
    """Checks that the progress of a checkpoint is consistent with the plan.

    Args:
        progress: progress of the checkpoint.
        plan: plan from the current recipe and data.
        where: path of the checkpoint.

    Raises:
        ConfigError: the plan has fewer stages, or a stage is longer than planned.
    """
    stages, stage_starts = plan.stages, progress.stage_starts
    if len(stage_starts) > len(stages):
        raise ConfigError(f"{where}: is in stage {len(stage_starts)}, but the recipe has {len(stages)}")
    for number, (begin, end) in enumerate(zip(stage_starts, [*stage_starts[1:], progress.step], strict=True)):
        longest = stages[number].steps
        # A completed stage is followed by the next, unless it is the last.
        is_over = number < len(stage_starts) - 1 or (progress.finished and number == len(stages) - 1)
        if not 0 <= end - begin < longest + is_over:
            raise ConfigError(
                f"{where}: completed {count_text(end - begin, 'step')} of {stages[number].name}, which has {longest}. "
                "The recipe or the number of images has changed since the run began"
            )


def read_finished_progress(folder: RunFolder, recipe: Config) -> Counters | None:
    """The progress of a run whose newest checkpoint is the final one; None for other runs.

    Raises:
        ConfigError: the recipe of the run was changed.
    """
    for path in reversed(list_checkpoints(folder.checkpoints)):
        with contextlib.suppress(ArtifactError):
            checkpoint = read_checkpoint(path, with_tensors=False)
            check_recipe(recipe, checkpoint.recipe, folder.path)
            return checkpoint.progress if checkpoint.progress.finished else None
    return None


def last_good(folder: RunFolder, plan: Plan, note: Callable[[str], None]) -> Checkpoint | None:
    """The newest usable checkpoint whose log is complete, or else the newest usable one; None if none was written.

    Raises:
        ArtifactError: none of the checkpoints is usable.
    """
    size = folder.metrics.stat().st_size if folder.metrics.exists() else 0
    faults: list[str] = []
    without_log: list[Checkpoint] = []
    for path in reversed(list_checkpoints(folder.checkpoints)):
        try:
            checkpoint = read_checkpoint(path)
        except ArtifactError as error:
            faults.append(str(error))
            continue
        check_progress(checkpoint.progress, plan, path)
        if size >= checkpoint.progress.log_bytes:
            faults += [f"{folder.metrics}: shorter than at step {each.progress.step}" for each in without_log]
            break
        without_log.append(checkpoint)
    else:
        # No checkpoint has a complete log: the newest loses rows of metrics, but no training.
        if not without_log:
            if faults:
                raise ArtifactError(
                    f"{'; '.join(faults)}: no usable checkpoint is left. Start a new run with the recipe"
                )
            return None
        checkpoint = without_log[0]
    if faults:
        note(f"{'; '.join(faults)}: continuing from step {checkpoint.progress.step} instead")
    return checkpoint


MOST_ROLLBACKS = 6
"""Largest number of roll-backs; the learning rate is then 1/64."""


class Recovery:
    """Diagnosis of skipped steps, and roll-back.

    Args:
        task: the task.
        folder: run folder.
    """

    def __init__(self, task: Task, folder: RunFolder) -> None:
        self._task = task
        self._folder = folder

    def diagnose(self, progress: Counters, skips: SkippedSteps, engine: Engine) -> str:
        """Describes where the first skipped step of the streak became non-finite."""
        task, step = self._task, skips.first
        epoch, start = divmod(step, task.batches.steps_per_epoch)
        batch = next(iter(task.batches.iterate(epoch, start, task.device, task.plan.augmentation_strength(epoch))))
        starts = progress.stage_starts
        clocks = task.plan.clocks(starts, max(step, starts[-1]))
        largest = skips.limit(math.prod(task.batches.shape), ABSURD)
        reasons = [
            locate(each, batch, clocks, largest if each is engine.steps[0] else math.inf) for each in engine.steps
        ]
        found = task.ranks.gather(next(filter(None, reasons), None))
        reason = next(filter(None, found), "its values were not finite, but are finite in a repetition")
        return f"step {step} was skipped: {reason}"

    def checkpoint(self, progress: Counters, reason: str) -> Checkpoint | None:
        """The last checkpoint before the failure; None for the start of training.

        Args:
            progress: progress of the run.
            reason: reason of the roll-back.

        Raises:
            TrainingError: too many roll-backs.
        """
        if progress.lr_halvings >= MOST_ROLLBACKS:
            hint = ", or set training.precision: float32" if self._task.options.precision == "fp16" else ""
            raise TrainingError(
                f"{reason}, and {MOST_ROLLBACKS} roll-backs with half the learning rate did not help: "
                f"{REMEDY}{hint}. The notes in {self._folder.metrics} show where it began"
            )
        return read_together(self._task.ranks, self._before_skips)

    def _before_skips(self) -> Checkpoint | None:
        """The last checkpoint before a streak of skipped steps; later ones are removed.

        Checkpoints written because the run was stopped are ignored, so that interrupted runs give the same result.
        """
        for path in reversed(list_checkpoints(self._folder.checkpoints)):
            with contextlib.suppress(ArtifactError):
                checkpoint = read_checkpoint(path)
                if is_planned(path) and not checkpoint.skips_in_a_row:
                    return checkpoint
            remove_checkpoint(path)
        return None


@contextlib.contextmanager
def explain_out_of_memory(task: Task, folder: RunFolder, progress: Counters) -> Iterator[None]:
    """Converts out-of-memory errors inside the block to a `TrainingError` that says how to need less.

    Raises:
        TrainingError: out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        kept, recipe = list_checkpoints(folder.checkpoints), folder.path / "recipe.yaml"
        raise TrainingError(
            f"out of memory in step {progress.step}, with batches of {count_text(task.batches.batch_size, 'image')}. "
            f"Set training.accumulate or training.checkpointing: true in {recipe}; then `convae train --resume "
            f"{folder.path}{trust_options()}` continues from {kept[-1].name if kept else 'the beginning'}. "
            f"`convae find-batch-size {recipe}` finds the largest batch size for a new run"
        ) from error
