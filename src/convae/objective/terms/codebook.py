"""Codebook loss of VQ-VAE."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class Codebook(Term):
    """Codebook loss: squared distance of codes to their features, summed over the latent (van den Oord et al. 2017).

    Its gradient trains the codes only (arXiv:1711.00937). For the quantizers `simvq` and `ibq`, and for `vq` with
    `update: gradient`.
    """

    unit: ClassVar = "squared latent units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The codebook loss of each image."""
        return inputs.reported("codebook", "no quantizer of the model has it. Use vq (update: gradient), simvq or ibq")
