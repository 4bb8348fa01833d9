"""Health of a training: steps that were not finite, where that began, and a latent that nothing is told by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convae.data import Batch
from convae.training.stage_objective import Clocks, StageObjective
from convae.training.stepping import Stepper
from convae.training.validation import Validated

COLLAPSED = 0.1
"""KL divergence in nats per image below which the latent says nothing of an image."""
COLLAPSED_BOOK = 0.05
"""Perplexity of the codes, as a share of the entries of the code book, below which most of it lies idle."""
LEAST_PERPLEXITY = 1.5
"""A small code book lies idle below this."""


@dataclass
class Skips:
    """Steps that were skipped.

    Attributes:
        count: all of them.
        row: the last ones in a row.
        first: the first step of the last row.
    """

    count: int = 0
    row: int = 0
    first: int = -1


class Watch:
    """Counts skipped steps on the device, so that no step has to wait for it.

    Args:
        device: where the counters are.
        stored: counters to go on with.
    """

    def __init__(self, device: torch.device, stored: Skips) -> None:
        self._counters = torch.tensor([stored.count, stored.row, stored.first], device=device)

    def note(self, skipped: Tensor, step: int) -> None:
        """Whether step `step` was skipped."""
        count, row, first = self._counters.unbind()
        begins = skipped & (row == 0)
        first = torch.where(begins, torch.full_like(first, step), first)
        self._counters = torch.stack([count + skipped, (row + 1) * skipped, first])

    def read(self) -> Skips:
        """The counters; waits for the device."""
        return Skips(*self._counters.tolist())


def locate(model: nn.Module, stepper: Stepper, batch: Batch, objective: StageObjective, clocks: Clocks) -> str | None:
    """Where values stop being finite when a batch is run again: a layer, a term, or a parameter's gradient.

    None where all of them are finite. The model is left as it was, without gradients.
    """
    names = {module: name for name, module in model.named_modules() if not list(module.children())}
    found: list[str] = []

    def look(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(f"{names[module]} ({type(module).__name__})")

    hooks = [module.register_forward_hook(look) for module in names]
    with _statistics_kept(model):
        figures = stepper.gradients(batch, objective, clocks)
    for hook in hooks:
        hook.remove()
    found += [f"the term {name}" for name, value in figures.items() if name != "total" and not value.isfinite()]
    grown = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
    # The gradient goes through the model from its end.
    found += [f"the gradient of {name}" for name, gradient in reversed(grown) if not gradient.isfinite().all()]
    model.zero_grad(set_to_none=True)
    return found[0] if found else None


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


def collapse(found: Validated) -> str | None:
    """A sentence on the collapse of the posterior or of the code book, if that is what the figures say."""
    if found.perplexity is not None and found.entries is not None:
        if found.perplexity >= max(COLLAPSED_BOOK * found.entries, LEAST_PERPLEXITY):
            return None
        return (
            f"codebook collapse: {found.codes} of {found.entries} entries are in use, as variedly as "
            f"{found.perplexity:.1f} used evenly: raise restart of the bottleneck (0.03 is usual), lower "
            "objective.commitment.weight or the learning rate, or take fewer codes"
        )
    if found.kl >= COLLAPSED and found.active:
        return None
    return (
        f"posterior collapse: {found.active} of {found.latent} latent values are active and the KL divergence is "
        f"{found.kl:.2g} nats per "
        "image: lower objective.kl.weight, let it rise from 0 (weight: {linear: {epochs: 10}}), or give free-bits in "
        "the place of kl"
    )
