"""Weights relative to all other terms, by the norms of gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.collective import shared_sum
from convae.core.precision import at_least_float32
from convae.core.slices import later_sums
from convae.objective.terms.base import Critic

NORM_DECAY = 0.9
"""Decay of the running means of squared norms."""
SMALLEST_SQUARE = 1e-30


class BalancedCritic(Critic):
    """A critic whose term can have a gradient as large as that of all other terms, at one tensor of the model.

    As in VQGAN (Esser et al. 2021, arXiv:2012.09841): the gradient is multiplied by the ratio of both norms.

    Attributes:
        max_ratio: largest ratio; None if the gradient is not multiplied.
        squares: mean squared norms of gradients by that tensor over about ten steps: of all other terms with their
            weights, and of the term without its weight; 0 before they are known.
    """

    squares: Tensor

    def __init__(self, max_ratio: float | None) -> None:
        super().__init__()
        self.max_ratio = max_ratio
        self.register_buffer("squares", torch.zeros(2))

    @property
    def ratio(self) -> Tensor:
        """Ratio of the norms in `squares`, at most `max_ratio`: a scalar on the device."""
        others, own = self.squares.unbind()
        return (others / own.clamp_min(SMALLEST_SQUARE)).sqrt().clamp_max(self.max_ratio or torch.inf)

    def balanced(self, tensor: Tensor, weight: float) -> Tensor:
        """The tensor for the term alone, whose gradient is multiplied by the ratio; both norms are measured.

        Args:
            tensor: what the term and others depend on; itself where the gradient is not multiplied.
            weight: of the term.
        """
        if self.max_ratio is None or weight == 0 or not (torch.is_grad_enabled() and tensor.requires_grad):
            return tensor
        own, ratio = tensor.view_as(tensor), self.ratio
        add, kept = later_sums((self, "squares"), self._add_squares), list[Tensor]()

        def scale(gradient: Tensor) -> Tensor:
            kept.append(gradient.detach())
            return gradient * ratio.to(gradient.dtype)

        def measure(gradient: Tensor) -> None:
            if kept:
                mine = at_least_float32(kept.pop())
                others = at_least_float32(gradient.detach()) - mine * ratio
                add(torch.stack([others.square().sum(), (mine / weight).square().sum()]))

        own.register_hook(scale)
        tensor.register_hook(measure)
        return own

    @torch.no_grad()
    def _add_squares(self, sums: Tensor) -> None:
        """Updates `squares` with the sums of a batch, unless they are not finite."""
        sums = shared_sum(sums.to(self.squares))
        means = torch.where(self.squares > 0, torch.lerp(sums, self.squares, NORM_DECAY), sums)
        self.squares.copy_(torch.where(means.isfinite(), means, self.squares))
