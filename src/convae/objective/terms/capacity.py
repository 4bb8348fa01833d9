"""KL capacity."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.schedules.base import Written, build_schedule
from convae.objective.terms.base import LossInputs, Term

GROWTH: Written = {"linear": {"end": 25.0}}
"""Capacity schedule of the paper: linear from 0 to 25 nats over the training."""


class Capacity(Term):
    """KL capacity, |KL − C| (Burgess et al. 2018, arXiv:1804.03599).

    Its weight is the paper's γ, about 1000 there. It replaces `kl`; add `kl` with weight 0 to log the KL divergence.

    Args:
        nats: C, a number or a schedule.
    """

    unit: ClassVar = "nats"
    regularizes_posterior: ClassVar = True

    def __init__(self, *, nats: Written = GROWTH) -> None:
        super().__init__()
        self.capacity = build_schedule(nats, "nats")

    def forward(self, inputs: LossInputs) -> PerImage:
        """|KL − C| of each image."""
        return (inputs.posterior.kl() - self.capacity(inputs.moment)).abs()
