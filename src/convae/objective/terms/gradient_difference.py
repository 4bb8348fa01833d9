"""Differences of edges."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class GradientDifference(Term):
    """Gradient difference loss (Mathieu, Couprie & LeCun 2016, arXiv:1511.05440): sharpens edges.

    The sum over all pairs of neighboring values, along every spatial axis, of how much the height of the step
    between them differs from that in the expected image, to the power of `alpha`. Which way a step goes is not
    compared, so it stands beside a term that compares the values themselves.

    Args:
        alpha: the power; 1 leaves the unit as it is.
    """

    unit: ClassVar = "image units^alpha"

    def __init__(self, *, alpha: Annotated[float, Field(ge=1, le=4)] = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, inputs: LossInputs) -> PerImage:
        """The difference of each image's edges."""
        axes = range(2, inputs.images.ndim)
        pairs = ((inputs.images.diff(dim=axis).abs(), inputs.reconstruction.diff(dim=axis).abs()) for axis in axes)
        sums = [((x - y).abs() ** self.alpha).flatten(1).sum(1) for x, y in pairs]
        return torch.stack(sums).sum(0)
