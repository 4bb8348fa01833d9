"""Absolute differences of values."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class AbsoluteError(Term):
    """Sum over the image's values of the absolute difference from the expected image.

    It is −log p(x | z) of a Laplace distribution with a scale of 1, but for a constant.
    """

    unit: ClassVar = "image units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The error of each image."""
        return (inputs.images - inputs.reconstruction).abs().flatten(1).sum(1)
