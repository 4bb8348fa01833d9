"""Health of a training: skipped steps and their origin, divergence, and selection of the best model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.types import Batch
from convae.model.layers.base import uncompiled
from convae.objective.schedules.base import Clocks
from convae.training.loop.counters import Counters, RunningMeans
from convae.training.loop.step import StepResult, TrainStep
from convae.training.loop.task import SavedAs, Task
from convae.training.recipe.plan import Stage
from convae.training.run_folder import RunFolder
from convae.training.sharding import local_part

ABSURD = 1e6
"""A step is skipped if its total is this many times that of the first step."""
DIVERGED = 1e2
"""A model has diverged if its total is this many times that of the first step."""
LARGEST_INITIAL = 1e6
"""Largest plausible total of the first step in nats per value: a Gaussian of standard deviation 0.001."""
REMEDY = "lower training.optimizer.lr or set training.optimizer.clip"


@dataclass
class SkippedSteps:
    """Steps that were skipped.

    Attributes:
        count: total number.
        row: number of consecutive ones up to now.
        first: first step of the current streak.
        initial_total: magnitude of the first step's total, nats per image, as the reference; 0 before it.
    """

    count: int = 0
    row: int = 0
    first: int = -1
    initial_total: float = 0.0

    def limit(self, values: int, factor: float) -> float:
        """Limit of the total, nats per image, for images with this number of values."""
        initial = min(self.initial_total or math.inf, LARGEST_INITIAL * values)
        # A total may be close to zero by chance; one nat per value is small for any model.
        return factor * (initial + values)


class HealthMonitor:
    """Counts skipped steps on the device, without synchronization.

    Args:
        device: device of the counters.
        values: number of values of an image.
    """

    def __init__(self, device: torch.device, values: int) -> None:
        self._device, self._values = device, values
        self.load_state(asdict(SkippedSteps()))

    def state(self) -> dict[str, Any]:
        """The counters; synchronizes with the device."""
        return asdict(self.read())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the counters."""
        stored, device = SkippedSteps(**state), self._device
        self._counters = torch.tensor([stored.count, stored.row, stored.first], device=device)
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._initial = torch.tensor(stored.initial_total, dtype=kind, device=device)

    def largest_total(self) -> Tensor:
        """Limit of the total, nats per image, above which a step is skipped."""
        most = LARGEST_INITIAL * self._values
        initial = torch.where(self._initial > 0, self._initial, math.inf).clamp_max(most)
        return ABSURD * (initial + self._values)

    def note(self, done: StepResult, step: int) -> None:
        """Counts the result of a step."""
        count, row, first = self._counters.unbind()
        begins = done.faulty & (row == 0)
        first = torch.where(begins, torch.full_like(first, step), first)
        self._counters = torch.stack([count + done.faulty, (row + 1) * done.faulty, first])
        is_first = (self._initial == 0) & ~done.skipped
        self._initial = torch.where(is_first, done.metrics["total"].abs().to(self._initial.dtype), self._initial)

    def read(self) -> SkippedSteps:
        """The counters; synchronizes with the device."""
        count, row, first = self._counters.tolist()
        return SkippedSteps(count, row, first, float(self._initial))


def locate(step: TrainStep, batch: Batch, clocks: Clocks, largest: float) -> str | None:
    """Repeats an update to find the first non-finite value: in a layer, statistics, a term, or a gradient.

    None if everything is finite. The module is unchanged, without gradients.

    Args:
        step: step of the update.
        batch: batch of the step.
        clocks: the moment before the step.
        largest: limit of the total, nats per image.
    """
    module = step.update.module
    names = {layer: name for name, layer in module.named_modules() if not list(layer.children())}
    found: list[str] = []

    def look(layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(f"{names[layer]} ({type(layer).__name__})")

    hooks = [layer.register_forward_hook(look) for layer in names]
    # Values inside of compiled code cannot be looked at.
    with _statistics_kept(module), uncompiled(module):
        metrics = step.gradients(batch, clocks)
        statistics = [name for name, buffer in module.named_buffers() if not buffer.isfinite().all()]
    for hook in hooks:
        hook.remove()
    found += [f"the term {name}" for name, value in metrics.items() if name != "total" and not value.isfinite()]
    found += [f"the statistics {name}" for name in statistics]
    grown = [(name, parameter.grad) for name, parameter in module.named_parameters() if parameter.grad is not None]
    # The backward pass starts at the end of the module.
    found += [f"the gradient of {name}" for name, gradient in reversed(grown) if not gradient.isfinite().all()]
    module.zero_grad(set_to_none=True)
    if found:
        return f"the first non-finite values are in {found[0]}"
    if (total := float(metrics["total"])) > largest:
        return f"its total of {total:.1e} nats per image is too large: {_greatest(_floats(metrics))}"
    return None


def _floats(figures: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if name != "total"}


def _greatest(terms: Mapping[str, float]) -> str:
    """The largest term."""
    name = max(terms, key=lambda term: math.inf if math.isnan(terms[term]) else abs(terms[term]))
    return f"{name} is {terms[name]:.1e}"


@contextlib.contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """A context after which the buffers and gradients of the model are restored."""
    before: Mapping[str, Tensor] = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])


def not_finite(model: nn.Module) -> str | None:
    """Name of the first non-finite weight or statistic of this process; synchronizes with the device."""
    parts = {name: local_part(tensor) for name, tensor in model.state_dict().items()}
    tensors = {name: part for name, part in parts.items() if part.is_floating_point() and part.numel()}
    if not tensors or torch.nn.utils.get_total_norm(tensors.values(), math.inf).isfinite():
        return None
    return next(name for name, tensor in tensors.items() if not tensor.isfinite().all())


def divergence(total: float, terms: Mapping[str, float], largest: float, step: int) -> str | None:
    """Describes a model whose total diverged although all steps were finite; None otherwise.

    Args:
        total: weighted total, nats per image.
        terms: unweighted terms.
        largest: limit of the total.
        step: step of the measurement.
    """
    if math.isfinite(total) and total <= largest:
        return None
    return (
        f"the model after step {step} has diverged: its total is {total:.1e} nats per image, {_greatest(terms)}. "
        f"It is not saved as the best model: {REMEDY}"
    )


ROLL_BACK_AFTER = 10
"""Number of consecutive non-finite steps after which the weights are taken to be the cause."""


class ModelSelection:
    """Validates models, and saves the last and the best one of a run.

    Args:
        task: the task.
        folder: run folder.
        progress: progress of the run.
        health: health monitor, for the total of the first step.
        write: writes a row of metrics.
        note: writes a sentence.
    """

    def __init__(
        self,
        task: Task,
        folder: RunFolder,
        progress: Counters,
        health: HealthMonitor,
        write: Callable[[str, dict[str, Any]], None],
        note: Callable[[str | None], None],
    ) -> None:
        self._task, self._folder, self._progress, self._health = task, folder, progress, health
        self._write, self._note = write, note

    def judge(self, shown: Task, stage: Stage, means: RunningMeans) -> dict[str, float]:
        """Validates the model, writes a row of metrics, and saves it as the last and, if it is, the best model.

        Args:
            shown: the task with the weights to save.
            stage: current stage.
            means: training metrics of the epoch, used if there is no validation data.

        Returns:
            The metrics for plateaus, with the total under the weights at the end of the stage, since totals under
            changing weights are not comparable. Empty without metrics.
        """
        task, progress = self._task, self._progress
        if task.ranks.is_main:
            self._folder.check()
        starts = progress.stage_starts
        at_end = task.plan.clocks(starts, task.plan.stage_end(starts))
        found = task.validate(stage, task.plan.clocks(starts, progress.step), at_end)
        if found is None:
            return self._judge_training(shown, stage, means.read(), stage.objective.total, at_end)
        self._write("validation", dict(found.row))
        progress.collapse_streak = progress.collapse_streak + 1 if found.warning else 0
        if progress.collapse_streak == 2:  # once may be the start of training; a repetition would be noise
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
        """The same without validation data: the last model is the best."""
        self.save(shown, "last")
        terms = {name: metrics[name] for name in stage.objective.units if name in metrics}
        if metrics and not self._has_diverged(metrics["total"], terms):
            self.save(shown, "last, since no images were held out for validation")
        return {**metrics, "total": total(metrics, at_end)} if metrics else {}

    def save(self, shown: Task, which: str, metrics: Mapping[str, float] | None = None) -> None:
        """Saves the model as `last` or as `model`."""
        if not self._task.ranks.is_main:
            return
        progress = self._progress
        stage = self._task.plan.current_stage(progress.stage_starts).name
        path = self._folder.last if which == "last" else self._folder.model
        shown.save(path, SavedAs(which, progress.step, stage, dict(metrics or {})))

    def is_at_plateau(self, stage: Stage, metrics: Mapping[str, float]) -> bool:
        """Whether the monitored metric of the stage has reached a plateau."""
        rule, progress = stage.plateau, self._progress
        clocks = self._task.plan.clocks(progress.stage_starts, progress.step)
        if rule is None or clocks.stage.epoch < rule.after:
            return False
        return progress.update_plateau(rule, metrics.get(rule.metric, math.inf))

    def _has_diverged(self, total: float, terms: Mapping[str, float]) -> bool:
        """Whether the losses of a model have diverged; writes a note the first time."""
        progress = self._progress
        limit = self._health.read().limit(math.prod(self._task.batches.shape), DIVERGED)
        sentence = divergence(total, terms, limit, progress.step)
        progress.divergence_streak = progress.divergence_streak + 1 if sentence else 0
        if progress.divergence_streak == 1:
            self._note(sentence)
        return sentence is not None
