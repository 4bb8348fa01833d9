"""Squared error."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class SquaredError(Term):
    """Squared error of the reconstruction, summed over the image.

    Equal to −log p(x | z) of a Gaussian with a sigma of √½, up to a constant. The reconstruction is
    clamped to [0, 1]; `reconstruction` compares the location before clamping.
    """

    unit: ClassVar = "squared image units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The error of each image."""
        return inputs.weighted((inputs.values - inputs.reconstruction).square()).flatten(1).sum(1)
