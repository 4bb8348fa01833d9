"""Squared differences of values."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class SquaredError(Term):
    """Sum over the image's values of the squared difference from the expected image.

    It is −log p(x | z) of a Gaussian with a sigma of √½, but for a constant. The expected image is cut to [0, 1]:
    where a model with `link: identity` lies beyond, this term has no gradient, while `reconstruction` has one.
    """

    unit: ClassVar = "squared image units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The error of each image."""
        return (inputs.images - inputs.reconstruction).square().flatten(1).sum(1)
