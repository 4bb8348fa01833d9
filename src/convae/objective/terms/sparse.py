"""How much of the latent is in use."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class Sparse(Term):
    """Mean over the latent of the posterior mean's absolute value: pulls the latent values of an image to zero."""

    unit: ClassVar = "latent units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The mean of each image's latent values."""
        return inputs.output.posterior.mean.abs().flatten(1).mean(1)
