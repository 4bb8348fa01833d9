"""Health of a training: steps that make no sense, where that began, models that diverged, the last and best model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.types import Batch
from convae.objective.schedules.base import Clocks
from convae.training.distributed.sharding import local_part
from convae.training.loop.progress import Progress, RunningMeans
from convae.training.loop.step import StepResult, TrainStep
from convae.training.loop.task import SavedAs, Task
from convae.training.recipe.plan import Stage
from convae.training.run_folder import RunFolder

ABSURD = 1e6
"""A step is skipped like one that is not finite when its total is this many times the first one's."""
DIVERGED = 1e2
"""A model is never the best when its total is this many times that of the first step."""
LARGEST_INITIAL = 1e6
"""Nats per value of an image that a sensible first step has at most: a Gaussian of standard deviation 0.001."""
REMEDY = "lower training.optimizer.lr or set training.optimizer.clip"


@dataclass
class SkippedSteps:
    """Steps that were skipped.

    Attributes:
        count: all of them.
        row: the last ones in a row.
        first: the first step of the last row.
        initial_total: the size of the first step's total, nats per image, to which others are compared; 0 before it.
    """

    count: int = 0
    row: int = 0
    first: int = -1
    initial_total: float = 0.0

    def limit(self, values: int, factor: float) -> float:
        """The total, nats per image, above which `factor` calls an image of so many values absurd."""
        initial = min(self.initial_total or math.inf, LARGEST_INITIAL * values)
        # A total may be close to zero by chance: one nat per value is small for any of them.
        return factor * (initial + values)


class HealthMonitor:
    """Counts skipped steps on the device, so that no step has to wait for it.

    Args:
        device: where the counters are.
        values: of an image.
    """

    def __init__(self, device: torch.device, values: int) -> None:
        self._device, self._values = device, values
        self.load_state(asdict(SkippedSteps()))

    def state(self) -> dict[str, Any]:
        """The counters; waits for the device."""
        return asdict(self.read())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the counters."""
        stored, device = SkippedSteps(**state), self._device
        self._counters = torch.tensor([stored.count, stored.row, stored.first], device=device)
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._initial = torch.tensor(stored.initial_total, dtype=kind, device=device)

    def largest_total(self) -> Tensor:
        """The total, nats per image, above which a step is skipped."""
        most = LARGEST_INITIAL * self._values
        initial = torch.where(self._initial > 0, self._initial, math.inf).clamp_max(most)
        return ABSURD * (initial + self._values)

    def note(self, done: StepResult, step: int) -> None:
        """What step `step` gave."""
        count, row, first = self._counters.unbind()
        begins = done.faulty & (row == 0)
        first = torch.where(begins, torch.full_like(first, step), first)
        self._counters = torch.stack([count + done.faulty, (row + 1) * done.faulty, first])
        is_first = (self._initial == 0) & ~done.skipped
        self._initial = torch.where(is_first, done.metrics["total"].abs().to(self._initial.dtype), self._initial)

    def read(self) -> SkippedSteps:
        """The counters; waits for the device."""
        count, row, first = self._counters.tolist()
        return SkippedSteps(count, row, first, float(self._initial))


def locate(step: TrainStep, batch: Batch, clocks: Clocks, largest: float) -> str | None:
    """Where an update goes wrong when its batch is run again: a layer, statistics, a term, or a parameter's gradient.

    None where nothing is wrong. The module is left as it was, without gradients.

    Args:
        step: of the update.
        batch: of the step.
        clocks: the moment before the step.
        largest: total, nats per image, above which it makes no sense.
    """
    module = step.update.module
    names = {layer: name for name, layer in module.named_modules() if not list(layer.children())}
    found: list[str] = []

    def look(layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(f"{names[layer]} ({type(layer).__name__})")

    hooks = [layer.register_forward_hook(look) for layer in names]
    with _statistics_kept(module):
        metrics = step.gradients(batch, clocks)
        statistics = [name for name, buffer in module.named_buffers() if not buffer.isfinite().all()]
    for hook in hooks:
        hook.remove()
    found += [f"the term {name}" for name, value in metrics.items() if name != "total" and not value.isfinite()]
    found += [f"the statistics {name}" for name in statistics]
    grown = [(name, parameter.grad) for name, parameter in module.named_parameters() if parameter.grad is not None]
    # The gradient goes through the module from its end.
    found += [f"the gradient of {name}" for name, gradient in reversed(grown) if not gradient.isfinite().all()]
    module.zero_grad(set_to_none=True)
    if found:
        return f"values that are not finite begin in {found[0]}"
    if (total := float(metrics["total"])) > largest:
        return f"a total of {total:.1e} nats per image makes no sense: {_greatest(_floats(metrics))}"
    return None


def _floats(figures: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if name != "total"}


def _greatest(terms: Mapping[str, float]) -> str:
    """The term that is to blame."""
    name = max(terms, key=lambda term: math.inf if math.isnan(terms[term]) else abs(terms[term]))
    return f"{name} is {terms[name]:.1e}"


@contextlib.contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """After the block, the model's buffers and gradients are what they were before."""
    before: Mapping[str, Tensor] = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])


def not_finite(model: nn.Module) -> str | None:
    """The name of the first weight or statistic, of this process's part of them, that is not finite; waits for it."""
    parts = {name: local_part(tensor) for name, tensor in model.state_dict().items()}
    tensors = {name: part for name, part in parts.items() if part.is_floating_point() and part.numel()}
    if not tensors or torch.nn.utils.get_total_norm(tensors.values(), math.inf).isfinite():
        return None
    return next(name for name, tensor in tensors.items() if not tensor.isfinite().all())


def divergence(total: float, terms: Mapping[str, float], largest: float, step: int) -> str | None:
    """A sentence on a model whose total makes no sense, though the steps that led there were finite.

    Args:
        total: nats per image, with the weights of the moment.
        terms: without their weights.
        largest: total above which a model has diverged.
        step: after which it was measured.
    """
    if math.isfinite(total) and total <= largest:
        return None
    return (
        f"the model after step {step} has diverged: its total is {total:.1e} nats per image, {_greatest(terms)}. "
        f"It is not kept as the best: {REMEDY}"
    )


ROLL_BACK_AFTER = 10
"""Steps in a row that were not finite after which the weights themselves are taken to be the reason."""


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
