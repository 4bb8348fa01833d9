"""How far features are from their entries of a code book."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class Commitment(Term):
    """Squared distance of the features from their entries of the code book, summed over the latent.

    The features move, not the entries (van den Oord et al. 2017, arXiv:1711.00937, where its weight is β = 0.25).
    """

    unit: ClassVar = "squared latent units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The distance of each image's features."""
        return inputs.reported("commitment", "the bottleneck has no code book: give kl, or the bottleneck vq")
