"""How far the entries of a code book are from the features that they stand for."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class Codebook(Term):
    """Squared distance of the features from their entries of the code book, summed over the latent.

    The entries move, not the features (van den Oord et al. 2017, arXiv:1711.00937): for code books that follow a
    gradient, not moving averages.
    """

    unit: ClassVar = "squared latent units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The distance of each image's entries."""
        return inputs.reported("codebook", "the bottleneck has no code book that follows a gradient")
