"""The KL held at a capacity that may grow."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.schedules.base import Written, build_schedule
from convae.objective.terms.base import LossInputs, Term

GROWTH: Written = {"linear": {"end": 25.0}}
"""The capacity of the paper: linearly from 0 to 25 nats over the training."""


class Capacity(Term):
    """|KL − C|: how far the KL of each image is from a set capacity (Burgess et al. 2018, arXiv:1804.03599).

    Its weight is the paper's γ, about 1000 there. In place of `kl`; with `kl` at a weight of 0 beside it, the
    true divergence is logged too.

    Args:
        nats: C, a number or a schedule.
    """

    unit: ClassVar = "nats"

    def __init__(self, *, nats: Written = GROWTH) -> None:
        super().__init__()
        self.capacity = build_schedule(nats, "nats")

    def forward(self, inputs: LossInputs) -> PerImage:
        """The distance of each image's divergence from the capacity."""
        return (inputs.posterior.kl() - self.capacity(inputs.moment)).abs()
