"""KL divergence."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class KL(Term):
    """KL divergence of the posterior from the prior, summed over the latent, nats per image.

    Its weight is the β of the β-VAE (Higgins et al. 2017); the value is unweighted.
    """

    unit: ClassVar = "nats"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The KL divergence of each image."""
        return inputs.posterior.kl()
