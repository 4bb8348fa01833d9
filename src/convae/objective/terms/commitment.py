"""Commitment loss of VQ-VAE."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class Commitment(Term):
    """Commitment loss: squared distance of features to their codes, summed over the latent (van den Oord et al. 2017).

    Its gradient trains the encoder only (arXiv:1711.00937, where its weight is β = 0.25).
    """

    unit: ClassVar = "squared latent units"
    default_weight: ClassVar = 0.25

    def forward(self, inputs: LossInputs) -> PerImage:
        """The commitment loss of each image."""
        return inputs.reported("commitment", "no quantizer of the model has it. Leave it out, or use one such as vq")
