"""Absolute error."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class AbsoluteError(Term):
    """Absolute error of the reconstruction, summed over the image.

    Equal to −log p(x | z) of a Laplace distribution with scale 1, up to a constant.
    """

    unit: ClassVar = "image units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The error of each image."""
        return inputs.weighted((inputs.values - inputs.reconstruction).abs()).flatten(1).sum(1)
