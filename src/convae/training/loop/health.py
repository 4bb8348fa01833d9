"""Health of a training: steps that make no sense, where that began, models that diverged, latents that say nothing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convae.core.types import Batch
from convae.training.distributed.sharding import local_part
from convae.training.loop.train_step import StepResult, TrainStep
from convae.training.recipe.stage_objective import Clocks, StageObjective
from convae.training.vae.validation import ValidationResult

COLLAPSED = 0.1
"""KL divergence in nats per image below which the latent says nothing of an image."""
COLLAPSED_BOOK = 0.05
"""Perplexity of the codes, as a fraction of the codes in the codebook, below which most of it lies idle."""
LEAST_PERPLEXITY = 1.5
"""A small codebook lies idle below this."""
LEAST_IMAGES = 50
"""Validation images below which no collapse is diagnosed: variances and uses of codes would be those of chance."""
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
        stored: counters to continue with.
        values: of an image.
    """

    def __init__(self, device: torch.device, stored: SkippedSteps, values: int) -> None:
        self._counters = torch.tensor([stored.count, stored.row, stored.first], device=device)
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._initial = torch.tensor(stored.initial_total, dtype=kind, device=device)
        self._values = values

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
        self._initial = torch.where(is_first, done.figures["total"].abs().to(self._initial.dtype), self._initial)

    def read(self) -> SkippedSteps:
        """The counters; waits for the device."""
        count, row, first = self._counters.tolist()
        return SkippedSteps(count, row, first, float(self._initial))


def locate(
    model: nn.Module, train_step: TrainStep, batch: Batch, objective: StageObjective, clocks: Clocks, largest: float
) -> str | None:
    """Where a step goes wrong when its batch is run again: a layer, statistics, a term, or a parameter's gradient.

    None where nothing is wrong. The model is left as it was, without gradients.

    Args:
        model: the model.
        train_step: runs the batch.
        batch: of the step.
        objective: of the step.
        clocks: the moment before the step.
        largest: total, nats per image, above which it makes no sense.
    """
    names = {module: name for name, module in model.named_modules() if not list(module.children())}
    found: list[str] = []

    def look(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(f"{names[module]} ({type(module).__name__})")

    hooks = [module.register_forward_hook(look) for module in names]
    with _statistics_kept(model):
        figures = train_step.gradients(batch, objective, clocks)
        statistics = [name for name, buffer in model.named_buffers() if not buffer.isfinite().all()]
    for hook in hooks:
        hook.remove()
    found += [f"the term {name}" for name, value in figures.items() if name != "total" and not value.isfinite()]
    found += [f"the statistics {name}" for name in statistics]
    grown = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
    # The gradient goes through the model from its end.
    found += [f"the gradient of {name}" for name, gradient in reversed(grown) if not gradient.isfinite().all()]
    model.zero_grad(set_to_none=True)
    if found:
        return f"values that are not finite begin in {found[0]}"
    if (total := float(figures["total"])) > largest:
        return f"a total of {total:.1e} nats per image makes no sense: {_greatest(_floats(figures))}"
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


def collapse(found: ValidationResult) -> str | None:
    """A sentence on the collapse of the posterior or of the codebook, if that is what the metrics say."""
    if found.images < LEAST_IMAGES:
        return None
    if found.perplexity is not None and found.entries is not None:
        if found.perplexity >= max(COLLAPSED_BOOK * found.entries, LEAST_PERPLEXITY):
            return None
        return (
            f"codebook collapse: {found.codes} of {found.entries} codes are in use, as variedly as "
            f"{found.perplexity:.1f} used evenly: raise dead_code_threshold of the bottleneck (0.03 is usual), lower "
            "objective.commitment.weight or the learning rate, or take fewer codes"
        )
    if found.kl >= COLLAPSED and found.active:
        return None
    says = (
        f"the KL divergence is only {found.kl:.2g} nats per image"
        if found.active
        else f"none of {found.latent} latent values is active"
    )
    return (
        f"posterior collapse: {says}, so that the latent says next to nothing of an image: lower objective.kl.weight, "
        "let it rise from 0 (weight: {linear: {epochs: 10}}), or give free-bits in the place of kl"
    )
