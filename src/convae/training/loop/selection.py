"""After an epoch: validation, the last and the best model, and whether a plateau ends the stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from convae.training.loop.health import DIVERGED, HealthMonitor, divergence
from convae.training.loop.progress import Progress, RunningMeans
from convae.training.loop.task import SavedAs, Task
from convae.training.recipe.plan import Stage
from convae.training.run_folder.folder import RunFolder


class ModelSelection:
    """Judges a model, and saves it as the last and, where it is, as the best of its run.

    Args:
        task: what is trained.
        folder: of the run.
        progress: of the run.
        health: knows the first total.
        write: writes a row of metrics.
        note: writes a sentence.
    """

    def __init__(
        self,
        task: Task,
        folder: RunFolder,
        progress: Progress,
        health: HealthMonitor,
        write: Callable[[str, dict[str, Any]], None],
        note: Callable[[str | None], None],
    ) -> None:
        self._task, self._folder, self._progress, self._health = task, folder, progress, health
        self._write, self._note = write, note

    def judge(self, shown: Task, stage: Stage, means: RunningMeans) -> dict[str, float]:
        """A row of metrics on the validation data; the last model is saved and, where this is it, the best.

        Args:
            shown: with the weights to save.
            stage: that is running.
            means: of the training metrics of the epoch, by which a run without validation data is judged.

        Returns:
            The metrics by which the stage is judged, with the total under the weights of its end: totals under
            weights that change cannot be compared. Empty where no step gave any.
        """
        task, progress = self._task, self._progress
        if task.ranks.is_main:
            self._folder.check()
        starts = progress.stage_starts
        at_end = task.plan.clocks(starts, task.plan.end(starts))
        found = task.validate(stage, task.plan.clocks(starts, progress.step), at_end)
        if found is None:
            return self._judge_training(shown, stage, means.read(), stage.objective.total, at_end)
        self._write("validation", dict(found.row))
        progress.collapse_streak = progress.collapse_streak + 1 if found.warning else 0
        if progress.collapse_streak == 2:  # once may be the beginning; more often would be a nuisance
            self._note(found.warning)
        self.save(shown, "last", found.judged)
        total = found.judged["total"]
        if not self._has_diverged(float(found.row["total"]), found.terms) and (
            progress.best is None or total < progress.best
        ):
            progress.best, progress.best_step = total, progress.step
            self.save(shown, "best on the validation images", found.judged)
        return found.judged

    def _judge_training(
        self, shown: Task, stage: Stage, metrics: dict[str, float], total: Callable[..., float], at_end: Any
    ) -> dict[str, float]:
        """The same where nothing is held out: the last model counts as the best."""
        self.save(shown, "last")
        terms = {name: metrics[name] for name in stage.objective.units if name in metrics}
        if metrics and not self._has_diverged(metrics["total"], terms):
            self.save(shown, "last, since no images were held out for validation")
        return {**metrics, "total": total(metrics, at_end)} if metrics else {}

    def save(self, shown: Task, which: str, metrics: Mapping[str, float] | None = None) -> None:
        """Writes the model to the folder's `last`, or, unless it is just the last, to its `model`."""
        if not self._task.ranks.is_main:
            return
        progress = self._progress
        stage = self._task.plan.running(progress.stage_starts).name
        path = self._folder.last if which == "last" else self._folder.model
        shown.save(path, SavedAs(which, progress.step, stage, dict(metrics or {})))

    def is_at_plateau(self, stage: Stage, metrics: Mapping[str, float]) -> bool:
        """Whether the metric that the stage watches was without progress for so long that the stage is over."""
        rule, progress = stage.plateau, self._progress
        clocks = self._task.plan.clocks(progress.stage_starts, progress.step)
        if rule is None or clocks.stage.epoch < rule.after:
            return False
        return progress.waits_too_long(rule, metrics.get(rule.of, math.inf))

    def _has_diverged(self, total: float, terms: Mapping[str, float]) -> bool:
        """Whether the losses of a model have diverged; notes it the first time."""
        progress = self._progress
        limit = self._health.read().limit(math.prod(self._task.batches.shape), DIVERGED)
        sentence = divergence(total, terms, limit, progress.step)
        progress.divergence_streak = progress.divergence_streak + 1 if sentence else 0
        if progress.divergence_streak == 1:
            self._note(sentence)
        return sentence is not None
