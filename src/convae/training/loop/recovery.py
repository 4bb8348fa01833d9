"""Going back: where values stopped being finite, and the state from which a run continues after many such steps."""

from __future__ import annotations

import contextlib
import math

from convae.core.errors import ArtifactError, TrainingError
from convae.training.loop.engine import Engine
from convae.training.loop.health import ABSURD, REMEDY, SkippedSteps, locate
from convae.training.loop.progress import Progress
from convae.training.loop.task import Task
from convae.training.run_folder.checkpoint import (
    Checkpoint,
    is_planned,
    list_checkpoints,
    read_checkpoint,
    read_together,
    remove_checkpoint,
)
from convae.training.run_folder.folder import RunFolder

ROLL_BACK_AFTER = 10
"""Steps in a row that were not finite after which the weights themselves are taken to be the reason."""
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
